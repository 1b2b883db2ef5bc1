#include <sys/ptrace.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/kernel/proc_task.h"
#include "engine/tracee/tracee.h"

namespace godwit::tracee {
namespace {

// A program's name for an error message.
std::string name_of(pid_t pid) {
  auto stat = kernel::read_task_stat_if_alive(pid, pid);
  return stat ? stat->comm : "?";
}

enum class Refusal { kGone, kOurs, kTryAgain };

// Why PTRACE_SEIZE said EPERM, or an error that says so:
// - the thread is traced: by us (a child of a traced task) or by somebody else;
// - it is dead or dying: exit_state is set before it vanishes from /proc;
// - it is a kernel thread, or we lack the permission.
Refusal explain_refusal(pid_t pid, pid_t tid) {
  auto status = kernel::read_task_status_if_alive(pid, tid);
  auto stat = kernel::read_task_stat_if_alive(pid, tid);
  if (!status || !stat || stat->state == 'Z' || stat->state == 'X') return Refusal::kGone;
  if (status->tracer_pid == ::gettid()) return Refusal::kOurs;
  if (status->tracer_pid != 0) {
    throw Error("pid {} (thread {}) is traced already, by pid {} ({})", pid, tid, status->tracer_pid,
                name_of(status->tracer_pid));
  }
  return Refusal::kTryAgain;
}

constexpr int kAttempts = 20;
constexpr std::chrono::milliseconds kBetweenAttempts{1};

}  // namespace

// The errors of PTRACE_SEIZE (ptrace(2) and kernel/ptrace.c), one by one:
//   ESRCH   no such thread: it is gone
//   EPERM   see explain_refusal; a race with the thread's exit looks the same for a moment, so try again
//   EAGAIN, EINTR  the thread is in the middle of execve: try again
//   EIO     an option that this kernel does not know: a bug of ours, reported as it is
std::optional<Tracee> Tracee::seize_if_alive(pid_t pid, pid_t tid, uint32_t options) {
  int error = 0;
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (::ptrace(PTRACE_SEIZE, tid, nullptr, reinterpret_cast<void*>(uintptr_t{options})) == 0) {
      Tracee tracee(pid, tid);
      tracee.options_ = options;
      return tracee;
    }
    error = errno;
    if (error == ESRCH) return std::nullopt;
    if (error == EPERM) {
      Refusal refusal = explain_refusal(pid, tid);
      if (refusal == Refusal::kGone) return std::nullopt;
      if (refusal == Refusal::kOurs) {
        Tracee tracee(pid, tid);
        tracee.options_ = options;
        return tracee;
      }
    } else if (error != EAGAIN && error != EINTR) {
      break;
    }
    std::this_thread::sleep_for(kBetweenAttempts);
  }
  throw SystemError(error, "pid {} (thread {}): cannot be traced", pid, tid);
}

}  // namespace godwit::tracee
