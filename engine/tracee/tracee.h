#pragma once

#include <signal.h>
#include <sys/types.h>
#include <sys/user.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/tracee/waiter.h"

namespace godwit::tracee {

// PTRACE_GET_RSEQ_CONFIGURATION: the rseq(2) registration of a thread.
struct RseqConfiguration {
  uint64_t pointer = 0;  // of the struct rseq in the tracee
  uint32_t size = 0;
  uint32_t signature = 0;
  uint32_t flags = 0;
};

// What a thread was doing when it was frozen.
enum class FrozenIn {
  kRunning,    // in its program or in a system call
  kGroupStop,  // stopped by SIGSTOP, SIGTSTP, SIGTTIN or SIGTTOU together with its process
};

// A thread as it was the moment it was frozen, before any batch ran in it. An interrupted system call shows
// in rax (-ERESTART*) and orig_rax; see syscall_restart.h. A thread inside an rseq critical section has
// already been moved to the section's abort address.
struct FrozenState {
  user_regs_struct registers{};
  uint64_t signal_mask = 0;
  FrozenIn in = FrozenIn::kRunning;
  int stop_signal = 0;  // of the group stop
};

// One thread that the calling thread traces. Move-only. The destructor detaches, and the task runs on; so
// does the death of this process, unless PTRACE_O_EXITKILL is set. Unless said otherwise the methods need the
// thread stopped, and throw SystemError (ESRCH when it is gone). Source: ptrace(2).
class Tracee {
 public:
  // PTRACE_SEIZE; empty when there is no such thread (any more). A thread that is traced already, a kernel
  // thread and a missing permission are errors that say so. Does not stop the thread.
  static std::optional<Tracee> seize_if_alive(pid_t pid, pid_t tid, uint32_t options);
  // A thread that became ours by PTRACE_O_TRACEFORK and the like; `options` are those it has from its
  // creator.
  static Tracee already_attached(pid_t pid, pid_t tid, uint32_t options) {
    Tracee tracee(pid, tid);
    tracee.options_ = options;
    return tracee;
  }

  Tracee(Tracee&& other) noexcept;
  Tracee& operator=(Tracee&& other) noexcept;
  Tracee(const Tracee&) = delete;
  Tracee& operator=(const Tracee&) = delete;
  ~Tracee();

  pid_t pid() const { return pid_; }  // of the process (tgid), as we see it
  pid_t tid() const { return tid_; }
  bool attached() const { return attached_; }

  user_regs_struct registers() const;
  void set_registers(const user_regs_struct& registers);
  // The NT_X86_XSTATE register set: an XSAVE area in the standard (not compacted) format.
  std::vector<std::byte> xstate() const;
  void set_xstate(std::span<const std::byte> area);
  uint64_t signal_mask() const;
  void set_signal_mask(uint64_t mask);
  // The signals queued for this thread, or for its whole process, oldest first; nothing is taken away.
  std::vector<siginfo_t> pending_private_signals() const { return peek_signals(false); }
  std::vector<siginfo_t> pending_shared_signals() const { return peek_signals(true); }
  // Of the signal whose delivery the thread is stopped at.
  siginfo_t signal_info() const;
  // Empty when the thread has none registered, or the kernel cannot tell (before 5.13).
  std::optional<RseqConfiguration> rseq_configuration() const;
  // PTRACE_GETEVENTMSG: the new tid after a fork event, ...
  unsigned long event_message() const;
  // Replaces the PTRACE_O_* options.
  void set_options(uint32_t options);
  // Lets no seccomp filter look at the thread's system calls while we trace it (PTRACE_O_SUSPEND_SECCOMP);
  // false when the kernel or a missing CAP_SYS_ADMIN does not allow it.
  bool suspend_seccomp();

  // PTRACE_INTERRUPT: the thread stops soon; also of a running thread.
  void interrupt();
  // PTRACE_CONT or PTRACE_SYSCALL, delivering `signal` when it is stopped at a signal's delivery.
  void resume(int signal = 0);
  void resume_to_system_call(int signal = 0);
  // Lets go; a task that is gone is no error.
  void detach(int signal = 0) noexcept;
  // Forgets a thread that has died, so that the destructor leaves the number alone.
  void forget() noexcept { attached_ = false; }
  // SIGKILL to the process.
  void kill() noexcept;

  // What capture() took at the freeze.
  const FrozenState& frozen() const { return frozen_; }
  // Takes the frozen state from the stopped thread; `stop` is the stop it is in.
  void capture(WaitStatus stop);
  // Corrects the frozen state and the thread itself: for a thread that was found in a dead tracer's stub.
  void replace_frozen(const user_regs_struct& registers, uint64_t signal_mask);

 private:
  Tracee(pid_t pid, pid_t tid) : pid_(pid), tid_(tid), attached_(true) {}
  std::vector<siginfo_t> peek_signals(bool shared) const;

  pid_t pid_, tid_;
  bool attached_;
  uint32_t options_ = 0;
  FrozenState frozen_;
};

}  // namespace godwit::tracee
