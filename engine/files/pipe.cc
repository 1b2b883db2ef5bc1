#include "engine/files/pipe.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <map>
#include <vector>

#include "engine/base/error.h"
#include "engine/files/description_state.h"
#include "engine/kernel/text_fields.h"
#include "proto/images/file_data.pb.h"

namespace godwit::files {
namespace {

bool can_read(uint32_t flags) {
  return (flags & O_ACCMODE) != O_WRONLY;
}
bool can_write(uint32_t flags) {
  return (flags & O_ACCMODE) != O_RDONLY;
}

// What waits in a pipe, without taking it out: tee(2) into a pipe of our own that is as large.
std::vector<std::byte> peek(int fd, int capacity) {
  int waiting = 0;
  check(::ioctl(fd, FIONREAD, &waiting), "ioctl(FIONREAD)");
  std::vector<std::byte> bytes(static_cast<size_t>(waiting));
  if (bytes.empty()) return bytes;
  Pipe copy = Pipe::create();
  check(::fcntl(copy.write_end.get(), F_SETPIPE_SZ, capacity), "fcntl(F_SETPIPE_SZ, {})", capacity);
  ssize_t copied = check(::tee(fd, copy.write_end.get(), bytes.size(), SPLICE_F_NONBLOCK), "tee");
  if (copied != waiting) throw Error("tee: {} of {} bytes that wait in the pipe", copied, waiting);
  read_exactly(copy.read_end.get(), bytes, "copy of a pipe");
  return bytes;
}

class PipeKind final : public kinds::FileKind {
 public:
  pb::fd_types type() const override { return pb::PIPE; }

  bool recognises(const kinds::OpenFile& file) const override {
    return S_ISFIFO(file.status.st_mode) && file.target.starts_with("pipe:");
  }

  void collect(const kinds::OpenFile& file, const kinds::Policy&, pb::file_entry& entry,
               kinds::Problems&) override {
    uint32_t pipe_id = static_cast<uint32_t>(file.status.st_ino);
    pb::pipe_entry& pipe = *entry.mutable_pipe();
    pipe.set_id(entry.id());
    pipe.set_pipe_id(pipe_id);
    pipe.set_flags(file.flags);
    *pipe.mutable_fown() = collect_owner(file);

    Found& found = found_[pipe_id];
    if (found.place.empty()) found.place = place_of(file);
    found.packets |= (file.flags & O_DIRECT) != 0;
    pollfd poll{file.duplicate.get(), 0, 0};
    check(::poll(&poll, 1, 0), "poll");
    if (can_read(file.flags) && !found.has_reader) {
      found.has_reader = true;
      found.writer_exists = !(poll.revents & POLLHUP);
      found.capacity = check(::fcntl(file.duplicate.get(), F_GETPIPE_SZ), "fcntl(F_GETPIPE_SZ)");
      found.contents = peek(file.duplicate.get(), found.capacity);
    }
    if (can_write(file.flags)) {
      found.has_writer = true;
      found.reader_exists = !(poll.revents & POLLERR);
    }
  }

  void check_whole(kinds::Problems& problems) override {
    for (const auto& [pipe_id, found] : found_) {
      const char* outside = nullptr;
      if (!found.has_writer && found.writer_exists) outside = "write";
      if (!found.has_reader && found.reader_exists) outside = "read";
      if (outside) {
        problems.add(
            "{}: its {} end is held outside of the dumped tree: redirect to a file or dump the other "
            "process too (--external and --inherit-fd: not available yet)",
            found.place, outside);
      }
      if (found.packets && !found.contents.empty()) {
        problems.add("{}: packets wait in it, and images have no place for their boundaries", found.place);
      }
    }
  }

  void write_images(images::ImageDirectory& images) override {
    auto writer = images.create(images::Kind::kPipesData);
    for (const auto& [pipe_id, found] : found_) {
      if (!found.has_reader) continue;
      pb::pipe_data_entry data;
      data.set_pipe_id(pipe_id);
      data.set_bytes(static_cast<uint32_t>(found.contents.size()));
      data.set_size(static_cast<uint32_t>(found.capacity));
      writer.write(data);
      writer.write_payload(found.contents);
    }
    writer.finish();
  }

  void read_images(const images::ImageDirectory& images) override {
    auto reader = images.open_if_exists(images::Kind::kPipesData);
    if (!reader) return;
    while (auto data = reader->next<pb::pipe_data_entry>()) {
      Wanted& wanted = wanted_[data->pipe_id()];
      wanted.capacity = static_cast<int>(data->size());
      wanted.contents = reader->read_payload(data->bytes());
    }
  }

  void plan(const pb::file_entry& entry, const kinds::Policy&, kinds::Problems& problems) override {
    Wanted& wanted = wanted_[entry.pipe().pipe_id()];
    if (++wanted.planned > 1 || wanted.capacity == 0) return;
    Pipe probe = Pipe::create();
    if (::fcntl(probe.write_end.get(), F_SETPIPE_SZ, wanted.capacity) < 0) {
      problems.add(
          "pipe {}: a capacity of {} bytes is not allowed here: {} (see /proc/sys/fs/pipe-max-size and "
          "pipe-user-pages-soft)",
          entry.pipe().pipe_id(), wanted.capacity, SystemError::errno_text(errno));
    }
  }

  Fd open(const pb::file_entry& entry, const kinds::Policy&) override {
    uint32_t flags = entry.pipe().flags();
    Wanted& wanted = wanted_[entry.pipe().pipe_id()];
    ErrorContext context{"pipe {}", entry.pipe().pipe_id()};
    if (!wanted.made) make(wanted);
    Fd fd = take_end(wanted, flags);
    set_status_flags(fd.get(), flags);
    // An end that nobody has must be closed, so that the other one sees it.
    if (++wanted.opened == wanted.planned) {
      for (Fd* spare : {&wanted.read_end, &wanted.write_end, &wanted.keep}) spare->reset();
    }
    return fd;
  }

 private:
  // Dump: one pipe.
  struct Found {
    std::string place;  // a descriptor of it, for messages
    bool has_reader = false, has_writer = false;
    bool reader_exists = false, writer_exists = false;  // anywhere, of the end that we do not have
    bool packets = false;
    int capacity = 0;
    std::vector<std::byte> contents;
  };
  // Restore: one pipe.
  struct Wanted {
    int capacity = 0;
    std::vector<std::byte> contents;
    int planned = 0, opened = 0;  // descriptions
    bool made = false;
    Fd read_end, write_end;  // as pipe2 gave them, while nobody has taken them
    Fd keep;                 // leads to the pipe for further descriptions
  };

  static void make(Wanted& wanted) {
    // Never blocks: images may claim more contents than capacity.
    Pipe pipe = Pipe::create(O_NONBLOCK);
    if (wanted.capacity != 0) {
      check(::fcntl(pipe.write_end.get(), F_SETPIPE_SZ, wanted.capacity), "fcntl(F_SETPIPE_SZ, {})",
            wanted.capacity);
    }
    write_all(pipe.write_end.get(), wanted.contents, "its contents");
    wanted.contents = {};
    wanted.keep = open_at(AT_FDCWD, fmt::format("/proc/self/fd/{}", pipe.read_end.get()), O_PATH);
    wanted.read_end = std::move(pipe.read_end);
    wanted.write_end = std::move(pipe.write_end);
    wanted.made = true;
  }

  // The first description of an end is the original one; the others, and those that a program opened through
  // /proc (which shows as O_LARGEFILE), are opened through /proc.
  static Fd take_end(Wanted& wanted, uint32_t flags) {
    // What the kernel's O_LARGEFILE is; C libraries of 64-bit systems call it 0.
    constexpr uint32_t kLargeFile = 0100000;
    bool original = !(flags & kLargeFile) && (flags & O_ACCMODE) != O_RDWR;
    Fd& end = can_write(flags) ? wanted.write_end : wanted.read_end;
    if (original && end) return std::move(end);
    int access = static_cast<int>(flags & O_ACCMODE);
    return open_at(AT_FDCWD, fmt::format("/proc/self/fd/{}", wanted.keep.get()), access | O_NONBLOCK);
  }

  std::map<uint32_t, Found> found_;
  std::map<uint32_t, Wanted> wanted_;
};

}  // namespace

std::unique_ptr<kinds::FileKind> make_pipe_kind() {
  return std::make_unique<PipeKind>();
}

}  // namespace godwit::files
