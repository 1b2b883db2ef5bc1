#include "engine/tracee/batch_stop.h"

#include <sys/ptrace.h>

#include <algorithm>

namespace godwit::tracee {
namespace {

bool is_fault(int signal) {
  return signal == SIGSEGV || signal == SIGBUS || signal == SIGILL || signal == SIGFPE || signal == SIGTRAP;
}

}  // namespace

BatchStop judge_batch_stop(WaitStatus status, const siginfo_t& info, const BatchEnd& end) {
  if (status.is_dead()) return BatchStop::kDead;
  switch (status.event()) {
    case 0:
      break;
    case PTRACE_EVENT_FORK:
    case PTRACE_EVENT_VFORK:
    case PTRACE_EVENT_CLONE:
      return BatchStop::kNewTask;
    default:
      return BatchStop::kGoOn;
  }
  int signal = status.delivery_signal();
  if (signal == 0) return BatchStop::kGoOn;  // a system call
  if (signal == end.signal) {
    bool own = info.si_code == SI_TKILL && info.si_pid == end.own_tgid;
    return own ? BatchStop::kEnd : BatchStop::kHoldSignal;
  }
  if (signal == SIGSTOP) return BatchStop::kStopSignal;
  // The kernel's own codes are positive; what others send is zero or negative.
  if (is_fault(signal) && info.si_code > 0) return BatchStop::kFault;
  return BatchStop::kRequeue;
}

std::vector<int> end_signals(const kernel::TaskStatus& status, bool group_stopped) {
  constexpr int kIgnoredByDefault[] = {SIGURG, SIGWINCH, SIGCHLD, SIGCONT};
  constexpr int kLastSignal = 64;
  uint64_t pending = status.pending | status.shared_pending;
  std::vector<int> signals;
  auto consider = [&](int signal) {
    // SIGCONT would end a group stop.
    if (signal == SIGCONT && group_stopped) return;
    if (((status.caught | pending) & signal_bit(signal)) == 0) signals.push_back(signal);
  };
  for (int signal : kIgnoredByDefault) consider(signal);
  for (int signal = 1; signal <= kLastSignal; ++signal) {
    bool ignored = (status.ignored & signal_bit(signal)) != 0;
    bool seen = std::find(signals.begin(), signals.end(), signal) != signals.end();
    if (ignored && !seen && !is_fault(signal) && signal != SIGCONT) consider(signal);
  }
  std::stable_partition(signals.begin(), signals.end(),
                        [&](int signal) { return (status.blocked & signal_bit(signal)) == 0; });
  return signals;
}

}  // namespace godwit::tracee
