#include "engine/files/terminal.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <optional>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "engine/files/description_state.h"
#include "engine/kernel/proc_task.h"
#include "proto/images/tty.pb.h"

namespace godwit::files {
namespace {

// Documentation/admin-guide/devices.txt: the terminal sides of pseudo terminals, 256 to a major.
constexpr unsigned kFirstMajor = 136, kLastMajor = 143, kPerMajor = 256;

// What TCGETS fills: asm-generic/termbits.h. glibc's structure of that name is larger.
struct Modes {
  uint32_t input, output, control, local;
  uint8_t line;
  uint8_t characters[19];
};

pb::termios_entry to_entry(const Modes& modes) {
  pb::termios_entry entry;
  entry.set_c_iflag(modes.input);
  entry.set_c_oflag(modes.output);
  entry.set_c_cflag(modes.control);
  entry.set_c_lflag(modes.local);
  entry.set_c_line(modes.line);
  entry.set_c_ispeed(0);  // in c_cflag
  entry.set_c_ospeed(0);
  for (uint8_t character : modes.characters) entry.add_c_cc(character);
  return entry;
}

Modes from_entry(const pb::termios_entry& entry) {
  Modes modes{.input = entry.c_iflag(),
              .output = entry.c_oflag(),
              .control = entry.c_cflag(),
              .local = entry.c_lflag(),
              .line = static_cast<uint8_t>(entry.c_line()),
              .characters = {}};
  auto count = std::min<size_t>(std::size(modes.characters), static_cast<size_t>(entry.c_cc_size()));
  for (size_t i = 0; i < count; ++i) {
    modes.characters[i] = static_cast<uint8_t>(entry.c_cc(static_cast<int>(i)));
  }
  return modes;
}

Modes get_modes(int fd, unsigned long request) {
  Modes modes{};
  check(::ioctl(fd, request, &modes), "ioctl(terminal modes)");
  return modes;
}

pb::tty_info_entry collect_info(const kinds::OpenFile& file, uint32_t id, uint32_t index) {
  int fd = file.duplicate.get();
  pb::tty_info_entry info;
  info.set_id(id);
  info.set_type(pb::PTY);
  info.set_locked(false);
  int exclusive = 0;
  check(::ioctl(fd, TIOCGEXCL, &exclusive), "ioctl(TIOCGEXCL)");
  info.set_exclusive(exclusive != 0);
  info.set_packet_mode(false);
  // The terminal itself tells these only to processes of its session.
  kernel::TaskStat stat = kernel::read_task_stat(file.pid, file.pid);
  bool controls = static_cast<uint32_t>(stat.tty_device) == static_cast<uint32_t>(file.status.st_rdev);
  info.set_sid(controls ? static_cast<uint32_t>(stat.session) : 0);
  info.set_pgrp(controls && stat.tty_pgrp > 0 ? static_cast<uint32_t>(stat.tty_pgrp) : 0);
  info.set_rdev(static_cast<uint32_t>(file.status.st_rdev));
  info.set_dev(static_cast<uint32_t>(file.status.st_dev));
  info.set_uid(file.status.st_uid);
  info.set_gid(file.status.st_gid);
  info.mutable_pty()->set_index(index);
  *info.mutable_termios() = to_entry(get_modes(fd, TCGETS));
  *info.mutable_termios_locked() = to_entry(get_modes(fd, TIOCGLCKTRMIOS));
  winsize size{};
  check(::ioctl(fd, TIOCGWINSZ, &size), "ioctl(TIOCGWINSZ)");
  info.mutable_winsize()->set_ws_row(size.ws_row);
  info.mutable_winsize()->set_ws_col(size.ws_col);
  info.mutable_winsize()->set_ws_xpixel(size.ws_xpixel);
  info.mutable_winsize()->set_ws_ypixel(size.ws_ypixel);
  return info;
}

// Where CRIU keeps the path of a terminal.
uint32_t add_path_entry(const kinds::OpenFile& file) {
  pb::file_entry& entry = file.add_entry(pb::REG);
  pb::reg_file_entry& reg = *entry.mutable_reg();
  reg.set_id(entry.id());
  reg.set_flags(file.flags);
  reg.set_pos(0);
  *reg.mutable_fown() = no_owner();
  reg.set_name(file.target);
  reg.set_mode(file.status.st_mode);
  return entry.id();
}

// Its size is left as it is: that is a fact about the window, not about the program.
void set_modes(int fd, const pb::termios_entry& entry) {
  Modes modes = from_entry(entry);
  // A background process that changes a terminal is stopped, unless it has this signal blocked.
  sigset_t background, before;
  sigemptyset(&background);
  sigaddset(&background, SIGTTOU);
  ::pthread_sigmask(SIG_BLOCK, &background, &before);
  Cleanup back([&] { ::pthread_sigmask(SIG_SETMASK, &before, nullptr); });
  check(::ioctl(fd, TCSETS, &modes), "ioctl(TCSETS)");
}

class TerminalKind final : public kinds::FileKind {
 public:
  pb::fd_types type() const override { return pb::TTY; }

  bool recognises(const kinds::OpenFile& file) const override {
    unsigned device_major = major(file.status.st_rdev);
    return S_ISCHR(file.status.st_mode) && device_major >= kFirstMajor && device_major <= kLastMajor &&
           !(file.flags & O_PATH);
  }

  void collect(const kinds::OpenFile& file, const kinds::Policy& policy, pb::file_entry& entry,
               kinds::Problems& problems) override {
    if (!policy.shell_job) {
      problems.add(
          "{}: is a terminal: pass --shell-job (-j), at dump and restore, to use the one that criu runs "
          "on, or start the program without one (setsid, < /dev/null)",
          place_of(file));
      return;
    }
    uint32_t index = (major(file.status.st_rdev) - kFirstMajor) * kPerMajor + minor(file.status.st_rdev);
    uint32_t info_id = index * 2;  // CRIU's: odd ones are the other sides
    if (info_ && info_->id() != info_id) {
      problems.add("{}: a second terminal beside pts/{}: criu has one to give", place_of(file),
                   info_->pty().index());
      return;
    }
    if (!info_) info_ = collect_info(file, info_id, index);
    pb::tty_file_entry& tty = *entry.mutable_tty();
    tty.set_id(entry.id());
    tty.set_tty_info_id(info_id);
    tty.set_flags(file.flags);
    *tty.mutable_fown() = collect_owner(file);
    tty.set_regf_id(add_path_entry(file));
  }

  void write_images(images::ImageDirectory& images) override {
    if (info_) images.write_one(images::Kind::kTtyInfo, 0, *info_);
  }

  void read_images(const images::ImageDirectory& images) override {
    auto reader = images.open_if_exists(images::Kind::kTtyInfo);
    if (!reader) return;
    while (auto info = reader->next<pb::tty_info_entry>()) {
      several_ |= info_ && info_->id() != info->id();
      info_ = std::move(*info);
    }
  }

  void plan(const pb::file_entry& entry, const kinds::Policy& policy, kinds::Problems& problems) override {
    if (!info_ || several_ || info_->type() != pb::PTY || entry.tty().tty_info_id() % 2 != 0) {
      problems.add("open file {}: only a single terminal of a shell's job can be restored yet", entry.id());
    } else if (!policy.shell_job) {
      problems.add("a terminal (pts/{} at the dump): pass --shell-job (-j) to use the one that criu runs on",
                   info_->pty().index());
    } else if (!::isatty(STDIN_FILENO)) {
      problems.add("--shell-job: the standard input of criu is not a terminal");
    }
  }

  Fd open(const pb::file_entry& entry, const kinds::Policy&) override {
    int flags = static_cast<int>(entry.tty().flags()) & ~(O_CREAT | O_EXCL | O_TRUNC);
    Fd fd = open_at(AT_FDCWD, fmt::format("/proc/self/fd/{}", STDIN_FILENO), flags | O_NOCTTY);
    if (info_ && info_->has_termios()) set_modes(fd.get(), info_->termios());
    return fd;
  }

  // The job was in the foreground, and is again, if its session is the terminal's: keys that make signals
  // reach it, and it may read.
  void finish_in_task(const pb::file_entry&, int number, tracee::Batch& batch) override {
    if (!info_ || info_->pgrp() == 0) return;
    constexpr uint64_t kBackground = uint64_t{1} << (SIGTTOU - 1);
    auto blocked = batch.put_object(kBackground);
    auto before = batch.put_in_out_object(uint64_t{0});
    auto group = batch.put_object(static_cast<pid_t>(info_->pgrp()));
    batch.call(SYS_rt_sigprocmask, {SIG_BLOCK, blocked, before, sizeof kBackground});
    batch.call(SYS_ioctl, {number, TIOCSPGRP, group}, tracee::OnFailure::kContinue);
    batch.call(SYS_rt_sigprocmask, {SIG_SETMASK, before, 0, sizeof kBackground});
  }

 private:
  std::optional<pb::tty_info_entry> info_;
  bool several_ = false;
};

}  // namespace

std::unique_ptr<kinds::FileKind> make_terminal_kind() {
  return std::make_unique<TerminalKind>();
}

}  // namespace godwit::files
