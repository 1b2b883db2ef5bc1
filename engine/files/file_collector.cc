#include "engine/files/file_collector.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/files/description_state.h"
#include "engine/files/descriptor_list.h"
#include "engine/files/path_file.h"
#include "engine/files/unrecognised_file.h"
#include "engine/kernel/fdinfo.h"
#include "engine/kernel/text_fields.h"

namespace godwit::files {
namespace {

// "1: POSIX  ADVISORY  WRITE 42 00:1f:5 0 EOF": the words that tell the lock, or nothing when there is none.
std::string first_lock(std::string_view info) {
  while (!info.empty()) {
    std::string_view line = kernel::take_until(info, '\n');
    if (kernel::take_until(line, ':') != "lock") continue;
    kernel::take_word(line);  // its number
    std::string kind(kernel::take_word(line));
    kernel::take_word(line);
    return kind + " " + std::string(kernel::take_word(line));
  }
  return {};
}

}  // namespace

FileCollector::FileCollector(kinds::FileKinds kinds, const kinds::Policy& policy)
    : kinds_(std::move(kinds)), policy_(policy) {}

void FileCollector::collect_process(pid_t pid, uint32_t files_id) {
  ErrorContext context{"pid {}", pid};
  auto [table, is_new] = tables_.try_emplace(files_id);
  if (!is_new) throw Error("descriptor table {} was collected already", files_id);
  Fd process(static_cast<int>(check(::syscall(SYS_pidfd_open, pid, 0), "pidfd_open({})", pid)));
  for (int number : list_descriptors(pid)) {
    ErrorContext descriptor{"fd {}", number};
    collect_descriptor(pid, process.get(), number, table->second);
  }
}

void FileCollector::collect_descriptor(pid_t pid, int pidfd, int number,
                                       std::vector<pb::fdinfo_entry>& table) {
  kinds::OpenFile file;
  file.pid = pid;
  file.number = number;
  file.duplicate = Fd(static_cast<int>(
      check(::syscall(SYS_pidfd_getfd, pidfd, number, 0), "pidfd_getfd({}, {})", pid, number)));
  check(::fstat(file.duplicate.get(), &file.status), "fstat");
  file.info = read_file(AT_FDCWD, fmt::format("/proc/{}/fdinfo/{}", pid, number));
  kernel::FdInfo info = kernel::parse_fdinfo(file.info);
  file.position = info.position;
  file.flags = info.flags & ~static_cast<uint32_t>(O_CLOEXEC);
  file.mount_id = info.mount_id;

  if (auto known = descriptions_.find({pid, number}, file.status)) {
    file.id = *known;
  } else {
    file.id = ++last_id_;
    descriptions_.add({pid, number}, file.status, file.id);
    file.target = read_link(AT_FDCWD, fmt::format("/proc/{}/fd/{}", pid, number));
    file.add_entry = [this](pb::fd_types type) -> pb::file_entry& { return add_entry(++last_id_, type); };
    collect_description(file);
  }
  // Posix locks belong to a process, so every descriptor is asked.
  if (auto lock = first_lock(file.info); !lock.empty()) {
    problems_.add("pid {}: fd {}: holds a file lock ({}): --file-locks is not available yet", pid, number,
                  lock);
  }
  auto collected = files_.find(file.id);
  if (collected == files_.end()) return;
  pb::fdinfo_entry& entry = table.emplace_back();
  entry.set_id(file.id);
  entry.set_flags(info.flags & O_CLOEXEC ? FD_CLOEXEC : 0);
  entry.set_type(collected->second.type());
  entry.set_fd(static_cast<uint32_t>(number));
}

void FileCollector::collect_description(const kinds::OpenFile& file) {
  for (const auto& kind : kinds_) {
    if (!kind->recognises(file)) continue;
    kind->collect(file, policy_, add_entry(file.id, kind->type()), problems_);
    return;
  }
  problems_.add("{}: {}", place_of(file), why_not_recognised(file));
}

pb::file_entry& FileCollector::add_entry(uint32_t id, pb::fd_types type) {
  pb::file_entry& entry = files_[id];
  entry.set_type(type);
  entry.set_id(id);
  return entry;
}

uint32_t FileCollector::add_path_file(const std::string& link, uint32_t flags) {
  PathFile file{.link = link, .path = read_link(AT_FDCWD, link), .flags = flags};
  check(::stat(link.c_str(), &file.status), "stat({})", link);
  auto [known, is_new] =
      path_files_.try_emplace({file.status.st_dev, file.status.st_ino, file.path, flags}, last_id_ + 1);
  if (!is_new) return known->second;
  uint32_t id = ++last_id_;
  if (auto why = why_path_is_lost(file)) {
    problems_.add("{}: {}: {}", link, file.path, *why);
    return id;
  }
  pb::reg_file_entry& reg = *add_entry(id, pb::REG).mutable_reg();
  reg.set_id(id);
  reg.set_pos(0);
  *reg.mutable_fown() = no_owner();
  collect_path_file(file, reg);
  return id;
}

void FileCollector::check_whole() {
  for (const auto& kind : kinds_) kind->check_whole(problems_);
}

void FileCollector::write(images::ImageDirectory& images) {
  auto files = images.create(images::Kind::kFiles);
  for (const auto& [id, entry] : files_) files.write(entry);
  files.finish();
  for (const auto& [files_id, table] : tables_) {
    auto writer = images.create(images::Kind::kFdinfo, files_id);
    for (const auto& entry : table) writer.write(entry);
    writer.finish();
  }
  for (const auto& kind : kinds_) kind->write_images(images);
}

}  // namespace godwit::files
