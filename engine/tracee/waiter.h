#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>

namespace godwit::tracee {

// What waitpid(2) says about a tracee.
class WaitStatus {
 public:
  explicit WaitStatus(int status) : status_(status) {}
  // The thread is no child of ours any more: reaped, or renamed by an exec of a sibling.
  static WaitStatus gone() { return WaitStatus(-1); }

  bool is_gone() const { return status_ == -1; }
  // The thread does not exist any more: exited, killed or gone.
  bool is_dead() const;
  // Stopped at the delivery of this signal, or 0.
  int delivery_signal() const;
  // PTRACE_EVENT_* of an event stop, or 0.
  int event() const;
  // At the entry or the exit of a system call (needs PTRACE_O_TRACESYSGOOD).
  bool at_system_call() const;
  // The signal of a group stop that PTRACE_EVENT_STOP reports, or 0.
  int group_stop_signal() const;
  int raw() const { return status_; }
  // "exited with status 3", "was killed by signal 9 (Killed)", "stopped by ...".
  std::string describe() const;

 private:
  int status_;
};

using Clock = std::chrono::steady_clock;
// Never passes when empty.
using Deadline = std::optional<Clock::time_point>;

// waitpid(2) behind an interface, so that the logic above it has unit tests.
class Waiter {
 public:
  virtual ~Waiter() = default;
  // The next report of the thread; empty when the deadline passes first. At least one look is taken.
  virtual std::optional<WaitStatus> wait(pid_t tid, Deadline deadline) = 0;
};

// Waits until the thread's report is `wanted`, or its end, or until the deadline passes (empty). Every other
// report is handed to `go_on`, which must let the thread go on.
std::optional<WaitStatus> wait_until(Waiter& waiter, pid_t tid, Deadline deadline,
                                     const std::function<bool(WaitStatus)>& wanted,
                                     const std::function<void(WaitStatus)>& go_on);

// The kernel's.
class KernelWaiter final : public Waiter {
 public:
  std::optional<WaitStatus> wait(pid_t tid, Deadline deadline) override;
};

}  // namespace godwit::tracee
