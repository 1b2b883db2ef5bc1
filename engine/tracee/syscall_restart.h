#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include <cstdint>
#include <optional>

// What the kernel does to a thread on its way back to its program, done by us: for threads that come back
// from a batch, or from an image, instead of from the kernel.
namespace godwit::tracee {

struct RseqConfiguration;

// What becomes of a call that waits in the kernel's restart block (-ERESTART_RESTARTBLOCK: nanosleep, poll,
// futex with a time-out).
enum class RestartBlock {
  kKept,  // the task runs on: restart_syscall continues the call
  kLost,  // the task will be rebuilt: the call returns EINTR
};

// The registers with which a stopped thread would return to its program: an interrupted system call is made
// to be called again, as the kernel would do after a stop without a signal handler. orig_rax becomes -1, so
// that the kernel does not do it a second time.
user_regs_struct resumed_registers(const user_regs_struct& stopped, RestartBlock restart_block);

// The abort address of the rseq critical section that `instruction` is in; empty when it is in none. A thread
// that is made to run something else and then comes back must come back there. Source: rseq(2),
// include/uapi/linux/rseq.h.
std::optional<uint64_t> rseq_abort_address(pid_t pid, const RseqConfiguration& rseq, uint64_t instruction);

}  // namespace godwit::tracee
