#include "engine/tracee/waiter.h"

#include <fmt/format.h>
#include <sched.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "engine/base/error.h"

namespace godwit::tracee {
namespace {

constexpr int kEventShift = 16;
constexpr int kSystemCallBit = 0x80;  // of PTRACE_O_TRACESYSGOOD

// A batch takes about 7 us, so the first looks follow each other closely; a thread that takes longer is
// looked at less and less often.
class Patience {
 public:
  void take_a_break(Clock::time_point deadline) {
    if (looks_++ < kClosely) {
      ::sched_yield();
      return;
    }
    std::this_thread::sleep_until(std::min(deadline, Clock::now() + pause_));
    pause_ = std::min(pause_ * 2, kLongest);
  }

 private:
  static constexpr int kClosely = 50;
  static constexpr std::chrono::microseconds kLongest{1000};
  int looks_ = 0;
  std::chrono::microseconds pause_{20};
};

}  // namespace

bool WaitStatus::is_dead() const {
  return is_gone() || WIFEXITED(status_) || WIFSIGNALED(status_);
}

int WaitStatus::event() const {
  return is_dead() ? 0 : status_ >> kEventShift;
}

bool WaitStatus::at_system_call() const {
  return !is_dead() && event() == 0 && WSTOPSIG(status_) == (SIGTRAP | kSystemCallBit);
}

int WaitStatus::delivery_signal() const {
  if (is_dead() || event() != 0 || at_system_call()) return 0;
  return WSTOPSIG(status_);
}

int WaitStatus::group_stop_signal() const {
  if (event() != PTRACE_EVENT_STOP) return 0;
  int signal = WSTOPSIG(status_);
  return signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU ? signal : 0;
}

std::string WaitStatus::describe() const {
  if (is_gone()) return "is gone";
  if (WIFEXITED(status_)) return fmt::format("exited with status {}", WEXITSTATUS(status_));
  if (WIFSIGNALED(status_)) {
    return fmt::format("was killed by signal {} ({})", WTERMSIG(status_), ::strsignal(WTERMSIG(status_)));
  }
  if (event() != 0) return fmt::format("stopped by ptrace event {}", event());
  if (at_system_call()) return "stopped at a system call";
  return fmt::format("stopped by signal {}", WSTOPSIG(status_));
}

std::optional<WaitStatus> wait_until(Waiter& waiter, pid_t tid, Deadline deadline,
                                     const std::function<bool(WaitStatus)>& wanted,
                                     const std::function<void(WaitStatus)>& go_on) {
  for (;;) {
    auto status = waiter.wait(tid, deadline);
    if (!status || status->is_dead() || wanted(*status)) return status;
    try {
      go_on(*status);
    } catch (const SystemError& error) {
      if (error.code() != ESRCH) throw;  // killed between its stop and now: the next report says so
    }
  }
}

std::optional<WaitStatus> KernelWaiter::wait(pid_t tid, Deadline deadline) {
  Patience patience;
  for (;;) {
    int status = 0;
    pid_t reported = ::waitpid(tid, &status, __WALL | (deadline ? WNOHANG : 0));
    if (reported == tid) return WaitStatus(status);
    if (reported < 0 && errno == ECHILD) return WaitStatus::gone();
    if (reported < 0 && errno != EINTR) throw SystemError(errno, "waitpid({})", tid);
    if (!deadline) continue;
    if (Clock::now() >= *deadline) return std::nullopt;
    patience.take_a_break(*deadline);
  }
}

}  // namespace godwit::tracee
