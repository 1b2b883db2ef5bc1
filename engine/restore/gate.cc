#include "engine/restore/gate.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <random>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/log.h"

namespace godwit::restore {
namespace {

// The watcher's answers, a byte each.
enum Answer : uint8_t { kHasCgroup, kHasNoCgroup, kReleased };

// What travels to the watcher: a process to hold, or the release.
struct Message {
  enum Kind : int32_t { kAdmit, kRelease };
  Kind kind;
  pid_t pid;
};

// How long a killed tree may take to be gone before its cgroup is left behind.
constexpr int kRemovalTries = 2000;
constexpr useconds_t kRemovalPause_us = 1000;

void remove_when_empty(const kernel::Cgroup& cgroup) {
  for (int i = 0; i < kRemovalTries && !cgroup.remove_if_empty(); ++i) ::usleep(kRemovalPause_us);
}

// Moves every process out; ones that are forked meanwhile show in the next pass.
void empty_into(const kernel::Cgroup& from, const kernel::Cgroup& to) {
  for (auto pids = from.processes(); !pids.empty(); pids = from.processes()) {
    for (pid_t pid : pids) {
      try {
        to.add(pid);
      } catch (const SystemError& error) {
        if (error.code() != ESRCH) throw;
      }
    }
  }
}

void kill_everything(const std::optional<kernel::Cgroup>& cgroup, const std::vector<Fd>& pidfds) {
  for (const Fd& pidfd : pidfds) ::syscall(SYS_pidfd_send_signal, pidfd.get(), SIGKILL, nullptr, 0);
  if (!cgroup) return;
  cgroup->kill_all();
  cgroup->set_frozen(false);
  remove_when_empty(*cgroup);
}

void let_go(const std::optional<kernel::Cgroup>& cgroup, const std::optional<kernel::Cgroup>& home) {
  if (!cgroup) return;
  cgroup->set_frozen(false);
  empty_into(*cgroup, *home);
  remove_when_empty(*cgroup);
}

void answer(int fd, Answer word) {
  write_all(fd, std::array{static_cast<std::byte>(word)}, "the restore");
}

// The watcher makes the cgroup, so that there never is one without somebody to remove it.
std::optional<kernel::Cgroup> make_cgroup(const std::optional<kernel::Cgroup>& home,
                                          const std::string& name) {
  if (!home) return std::nullopt;
  try {
    return home->create_child(name);
  } catch (const SystemError& error) {
    log::info("no cgroup for the restore, its watcher takes pidfds: {}", error.what());
    return std::nullopt;
  }
}

void watch(int commands, int answers, const std::optional<kernel::Cgroup>& home, const std::string& name) {
  auto cgroup = make_cgroup(home, name);
  std::vector<Fd> pidfds;
  Message message;
  // The restore may be dead already: then the end of its pipe says so.
  try {
    answer(answers, cgroup ? kHasCgroup : kHasNoCgroup);
  } catch (const SystemError& error) {
    if (error.code() != EPIPE) throw;
  }
  while (read_up_to(commands, std::as_writable_bytes(std::span(&message, 1)), "watcher") == sizeof message) {
    if (message.kind == Message::kRelease) {
      let_go(cgroup, home);
      answer(answers, kReleased);
      return;
    }
    pidfds.emplace_back(static_cast<int>(::syscall(SYS_pidfd_open, message.pid, 0)));
  }
  kill_everything(cgroup, pidfds);
}

void send(int fd, Message message) {
  write_all(fd, std::as_bytes(std::span(&message, 1)), "the restore's watcher");
}

}  // namespace

Gate::Gate() : home_(kernel::Cgroup::of_self_if_available()) {
  // Unique beyond our pid, which restores in other pid namespaces may have too.
  std::string name = fmt::format("godwit-restore-{}-{:08x}", ::getpid(), std::random_device{}());
  Pipe commands = Pipe::create(), answers = Pipe::create();
  watcher_ = check(::fork(), "fork");
  if (watcher_ == 0) {
    // A session of its own: what is sent to our terminal or process group must not reach it.
    ::setsid();
    ::signal(SIGPIPE, SIG_IGN);
    commands.write_end.reset();
    answers.read_end.reset();
    int status = 0;
    try {
      watch(commands.read_end.get(), answers.write_end.get(), home_, name);
    } catch (const std::exception& error) {
      log::error("watcher: {}", error.what());
      status = 1;
    }
    ::_exit(status);
  }
  to_watcher_ = std::move(commands.write_end);
  from_watcher_ = std::move(answers.read_end);
  answers.write_end.reset();
  std::byte ready;
  if (read_up_to(from_watcher_.get(), std::span(&ready, 1), "watcher") != 1) {
    end_watcher();
    throw Error("the restore's watcher ended before the restore began");
  }
  if (ready == static_cast<std::byte>(kHasCgroup)) cgroup_ = home_->open_child(name);
}

Gate::~Gate() {
  end_watcher();
}

void Gate::admit(pid_t pid) {
  if (cgroup_) {
    cgroup_->add(pid);
  } else {
    send(to_watcher_.get(), {Message::kAdmit, pid});
  }
}

void Gate::hold() {
  if (cgroup_) cgroup_->set_frozen(true);
}

void Gate::release() {
  send(to_watcher_.get(), {Message::kRelease, 0});
  std::byte answer;
  if (read_up_to(from_watcher_.get(), std::span(&answer, 1), "watcher") != 1) {
    throw Error("the restore's watcher (pid {}) ended before it released the tasks", watcher_);
  }
  end_watcher();
}

void Gate::end_watcher() {
  to_watcher_.reset();
  if (watcher_ < 0) return;
  int status;
  while (::waitpid(watcher_, &status, 0) < 0 && errno == EINTR) {
  }
  watcher_ = -1;
}

}  // namespace godwit::restore
