#pragma once

#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "engine/kernel/proc_task.h"
#include "engine/tracee/waiter.h"

// What a stop of a thread that runs a batch means. Pure decisions, tested without a kernel.
namespace godwit::tracee {

// How a batch's end will show: by `signal`, sent by the thread to itself.
struct BatchEnd {
  int signal = 0;
  pid_t own_tgid = 0;  // as the tracee's pid namespace has it, like siginfo
};

enum class BatchStop {
  kEnd,         // the batch is done
  kDead,        // the thread has ended
  kNewTask,     // a clone call made a task; PTRACE_GETEVENTMSG has its tid; then go on
  kGoOn,        // nothing of interest: let it go on without a signal
  kHoldSignal,  // somebody else sent the signal that ends batches: keep its siginfo, go on without it
  kStopSignal,  // SIGSTOP from outside: deliver it; the group stop that follows is another kGoOn
  kRequeue,  // a signal for the program: block it and deliver it, then the kernel puts it back into its queue
  kFault,    // the stub itself faulted
};

// `info` is PTRACE_GETSIGINFO's when the status is a signal's delivery.
BatchStop judge_batch_stop(WaitStatus status, const siginfo_t& info, const BatchEnd& end);

// The signals that may end a batch in this thread, the best first: without a handler, not pending, and
// ignored, by default or by the program; so they are nothing to a task whose tracer is dead. Those that the
// thread does not block come first: a blocked one could be meant for a later sigwait.
std::vector<int> end_signals(const kernel::TaskStatus& status, bool group_stopped);

constexpr uint64_t signal_bit(int signal) {
  return uint64_t{1} << (signal - 1);
}

}  // namespace godwit::tracee
