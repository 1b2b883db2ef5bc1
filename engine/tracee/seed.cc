#include "engine/tracee/seed.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/memfd.h>
#include <linux/sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/kernel/proc_task.h"

#ifndef MFD_EXEC  // Linux 6.3
#define MFD_EXEC 0x0010U
#endif

extern "C" {
extern const std::byte godwit_seed[], godwit_seed_end[];
}

namespace godwit::tracee {
namespace {

// A system call that failed in the child, told to the parent through a pipe that a successful exec closes.
struct ChildFailure {
  int step;
  int error;
};
constexpr const char* kSteps[] = {"signal mask", "setsid", "close_range", "execveat of the seed"};

// The child between clone3 and exec: system calls only, nothing that might take a lock of ours.
[[noreturn]] void become_seed(int program, int go, int failures, bool new_session) {
  auto attempt = [failures](int step, long result) {
    if (result >= 0) return;
    ChildFailure failure{step, errno};
    [[maybe_unused]] ssize_t told = ::write(failures, &failure, sizeof failure);
    ::_exit(1);
  };
  // One byte: we are traced, and die with our tracer. The end of the pipe: it died before.
  char byte;
  if (::read(go, &byte, 1) != 1) ::_exit(1);
  uint64_t none = 0;
  attempt(0, ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, sizeof none));
  if (new_session) attempt(1, ::syscall(SYS_setsid));
  attempt(2, ::syscall(SYS_close_range, 0u, ~0u, CLOSE_RANGE_CLOEXEC));
  char name[] = "godwit-seed";
  char* arguments[] = {name, nullptr};
  char* environment[] = {nullptr};
  attempt(3, ::syscall(SYS_execveat, program, "", arguments, environment, AT_EMPTY_PATH));
  ::_exit(1);
}

Fd make_program() {
  // MFD_EXEC is asked for where vm.memfd_noexec would otherwise forbid it, and unknown to older kernels.
  int fd = ::memfd_create("godwit-seed", MFD_CLOEXEC | MFD_EXEC);
  if (fd < 0 && errno == EINVAL) fd = ::memfd_create("godwit-seed", MFD_CLOEXEC);
  Fd program(check(fd, "memfd_create(godwit-seed)"));
  write_all(program.get(), {godwit_seed, godwit_seed_end}, "memfd:godwit-seed");
  return program;
}

[[noreturn]] void throw_clone_failure(const SeedOptions& options, int error) {
  if (error == EEXIST && !options.set_tid.empty()) {
    pid_t pid = options.set_tid.back();
    auto stat = kernel::read_task_stat_if_alive(pid, pid);
    if (stat) throw Error("pid {} is already taken by: {}", pid, stat->comm);
    throw Error("pid {} is already taken: by a process group, a session or in a nested namespace", pid);
  }
  throw SystemError(error, "clone3 of a process{}",
                    options.set_tid.empty() ? "" : fmt::format(" with pid {}", options.set_tid.back()));
}

void wait_for_exec(Tracee& child, int failures) {
  KernelWaiter waiter;
  auto executed = [](WaitStatus status) { return status.event() == PTRACE_EVENT_EXEC; };
  auto go_on = [&](WaitStatus status) { child.resume(status.delivery_signal()); };
  WaitStatus status = *wait_until(waiter, child.tid(), std::nullopt, executed, go_on);
  if (!status.is_dead()) return child.capture(status);
  child.forget();
  ChildFailure failure{};
  if (read_up_to(failures, writable_bytes_of(failure), "pipe of the seed") == sizeof failure) {
    throw SystemError(failure.error, "pid {}: {}", child.pid(), kSteps[failure.step]);
  }
  throw Error("pid {}, a new process, {}", child.pid(), status.describe());
}

}  // namespace

uint32_t restore_options() {
  return PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
         PTRACE_O_TRACECLONE;
}

Tracee spawn_seed(const SeedOptions& options) {
  Fd program = make_program();
  Pipe go = Pipe::create(), failures = Pipe::create();
  clone_args args{};
  args.flags = options.clone_flags | CLONE_CLEAR_SIGHAND;
  args.exit_signal = static_cast<uint64_t>(options.exit_signal);
  args.set_tid = reinterpret_cast<uint64_t>(options.set_tid.data());
  args.set_tid_size = options.set_tid.size();
  auto pid = static_cast<pid_t>(::syscall(SYS_clone3, &args, sizeof args));
  if (pid < 0) throw_clone_failure(options, errno);
  if (pid == 0) {
    // Our copy of the writing end would keep the pipe open after the parent's death.
    ::close(go.write_end.get());
    become_seed(program.get(), go.read_end.get(), failures.write_end.get(), options.new_session);
  }
  go.read_end.reset();
  failures.write_end.reset();
  auto child = Tracee::seize_if_alive(pid, pid, restore_options() | PTRACE_O_TRACEEXEC);
  if (!child) throw Error("pid {}, a new process, died at once", pid);
  write_all(go.write_end.get(), std::as_bytes(std::span("g", 1)), "pipe of the seed");
  wait_for_exec(*child, failures.read_end.get());
  child->set_options(restore_options());
  return std::move(*child);
}

}  // namespace godwit::tracee
