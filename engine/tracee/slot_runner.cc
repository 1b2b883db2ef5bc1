#include "engine/tracee/slot_runner.h"

#include <cstring>

#include "engine/base/error.h"
#include "engine/tracee/ptrace_call.h"
#include "engine/tracee/syscall_restart.h"

namespace godwit::tracee {
namespace {

StubDescriptor single_call(long nr, std::initializer_list<uint64_t> arguments) {
  // The result is not kept: there may be no memory to write to yet. It stays in a register.
  StubDescriptor call{.nr = static_cast<uint64_t>(nr), .arguments = {}, .result = kStubNotRun, .flags = 0};
  std::copy(arguments.begin(), arguments.end(), call.arguments);
  return call;
}

}  // namespace

void SlotRunner::read_identity(Slot& slot, const kernel::TaskStatus& status) {
  auto innermost = [](const kernel::TaskStatus& task) {
    return task.namespace_pids.empty() ? task.pid : task.namespace_pids.back();
  };
  pid_t own_tid = innermost(status);
  pid_t own_tgid = slot.tid == slot.pid ? own_tid : innermost(kernel::read_task_status(slot.pid, slot.pid));
  slot.end.own_tgid = own_tgid;
  slot.state.tgid = static_cast<uint32_t>(own_tgid);
  slot.state.tid = static_cast<uint32_t>(own_tid);
}

void SlotRunner::prepare_running(Slot& slot, Tracee& tracee) {
  auto status = kernel::read_task_status(slot.pid, slot.tid);
  read_identity(slot, status);
  bool group_stopped = tracee.frozen().in == FrozenIn::kGroupStop;
  auto signals = end_signals(status, group_stopped);
  if (signals.empty()) {
    throw RefusedError(
        "pid {} (thread {}): no signal is free to end a batch: it ignores none, and SIGURG, SIGWINCH, "
        "SIGCHLD "
        "and SIGCONT all have handlers or are pending",
        slot.pid, slot.tid);
  }
  slot.end.signal = signals[0];
  slot.spare_signal = signals.size() > 1 ? signals[1] : 0;
  slot.own = tracee.frozen().registers;
  slot.own_mask = tracee.frozen().signal_mask;
  slot.filtered = status.seccomp != 0;
  if (slot.filtered && !tracee.suspend_seccomp()) {
    throw RefusedError("pid {} (thread {}) is under a seccomp filter, and to suspend it needs CAP_SYS_ADMIN",
                       slot.pid, slot.tid);
  }
  slot.state.mode = slot.filtered ? 0 : kStubOwnsMask;
  slot.mask_changed = slot.filtered && (slot.own_mask & signal_bit(slot.end.signal)) != 0;
  slot.state.own_mask = slot.own_mask;
  set_own_registers(slot.state, resumed_registers(slot.own, RestartBlock::kKept));
}

void SlotRunner::prepare_restored(Slot& slot, Tracee& tracee) {
  read_identity(slot, kernel::read_task_status(slot.pid, slot.tid));
  // Its tracer's death is its own, so nothing has to be ignored; only pending signals must not be in the way.
  slot.end.signal = SIGURG;
  slot.spare_signal = SIGWINCH;
  slot.own = tracee.registers();
  slot.own_mask = tracee.signal_mask();
  slot.live_registers = true;
  slot.state.mode = kStubOwnsMask;
  slot.state.own_mask = slot.own_mask;
  set_own_registers(slot.state, slot.own);
}

void SlotRunner::install_stub(const Slot& slot) {
  memory_.write(slot.code, stub_code());
}

void SlotRunner::launch(Slot& slot, RemoteAddress descriptors, uint64_t count) {
  slot.state.descriptors = descriptors.value;
  slot.state.count = count;
  slot.state.signal = static_cast<uint64_t>(slot.end.signal);
  slot.state.batch_mask = ~signal_bit(slot.end.signal);
  memory_.write_object(slot.code + stub_code().size(), slot.state);
  enter(slot, slot.code, slot.state);
}

// From the one PTRACE_SETREGS on, the thread comes back by itself, whatever happens to us.
void SlotRunner::enter(Slot& slot, RemoteAddress stub, const StubState& state) {
  user_regs_struct registers = slot.live_registers ? get_registers(slot.tid) : slot.own;
  registers.rip = stub.value;
  registers.orig_rax = static_cast<uint64_t>(-1);  // no system call that the kernel would restart
  set_registers(slot.tid, registers);
  if (slot.mask_changed) set_signal_mask(slot.tid, state.batch_mask);
  slot.new_tasks.clear();
  slot.deadline.reset();
  if (timeout_.count() > 0) slot.deadline = Clock::now() + timeout_;
  slot.in_batch = true;
  resume(slot.tid);
}

void SlotRunner::await_end(Slot& slot) {
  while (slot.in_batch) {
    auto status = wait(slot);
    if (!status) {
      throw Error("pid {} (thread {}): its system calls did not end within {} ms", slot.pid, slot.tid,
                  timeout_.count());
    }
    siginfo_t info{};
    int signal = status->delivery_signal();
    if (signal != 0) GODWIT_PTRACE(PTRACE_GETSIGINFO, slot.tid, nullptr, &info);
    switch (judge_batch_stop(*status, info, slot.end)) {
      case BatchStop::kEnd:
        slot.in_batch = false;
        break;
      case BatchStop::kDead:
        slot.in_batch = false;
        slot.tid = 0;
        throw Error("pid {} {} while it ran system calls for us", slot.pid, status->describe());
      case BatchStop::kNewTask: {
        unsigned long tid = 0;
        GODWIT_PTRACE(PTRACE_GETEVENTMSG, slot.tid, nullptr, &tid);
        slot.new_tasks.push_back(static_cast<pid_t>(tid));
        resume(slot.tid);
        break;
      }
      case BatchStop::kGoOn:
        resume(slot.tid);
        break;
      case BatchStop::kHoldSignal:
        slot.held.push_back(info);
        resume(slot.tid);
        break;
      case BatchStop::kStopSignal:
        resume(slot.tid, signal);
        break;
      case BatchStop::kRequeue:
        requeue(slot, signal);
        break;
      case BatchStop::kFault:
        slot.in_batch = false;
        throw Error("pid {} (thread {}): the stub faulted: signal {} at {:#x}", slot.pid, slot.tid, signal,
                    get_registers(slot.tid).rip);
    }
  }
}

// A signal that is blocked by the time it is delivered goes back into its queue, siginfo and all
// (ptrace_signal in kernel/signal.c). So nothing is lost, even when we die the next moment. A stub that owns
// the mask meets this only before its first call; in a thread under a filter it happens at any time, and then
// the stub has to return by a signal frame.
void SlotRunner::requeue(Slot& slot, int signal) {
  if (slot.filtered && !slot.mask_changed) {
    slot.mask_changed = true;
    if (slot.frame) {
      slot.state.mode = kStubReturnsBySignalFrame;
      memory_.write_object(slot.code + stub_code().size() + offsetof(StubState, mode), slot.state.mode);
    }
  }
  set_signal_mask(slot.tid, ~signal_bit(slot.end.signal));
  resume(slot.tid, signal);
}

int64_t SlotRunner::call(Slot& slot, long nr, std::initializer_list<uint64_t> arguments) {
  RemoteAddress place = slot.code + stub_code().size() + sizeof(StubState);
  memory_.write_object(place, single_call(nr, arguments));
  launch(slot, place, 1);
  await_end(slot);
  return static_cast<int64_t>(get_registers(slot.tid).rbx);
}

int64_t SlotRunner::bootstrap_call(Slot& slot, RemoteAddress place, long nr,
                                   std::initializer_list<uint64_t> arguments) {
  BootstrapImage image{.state = slot.state, .call = single_call(nr, arguments)};
  // Without the signal frame, which lies in the scratch.
  image.state.mode &= ~kStubReturnsBySignalFrame;
  image.state.signal = static_cast<uint64_t>(slot.end.signal);
  image.state.batch_mask = ~signal_bit(slot.end.signal);
  memory_.write(place, lay_out_bootstrap(image, place));
  enter(slot, place, image.state);
  await_end(slot);
  return static_cast<int64_t>(get_registers(slot.tid).rbx);
}

void SlotRunner::send_home(Slot& slot) {
  // In this order: a thread with its own mask is still safe in the stub, which only puts it back once more.
  set_signal_mask(slot.tid, slot.own_mask);
  set_registers(slot.tid, slot.own);
}

}  // namespace godwit::tracee
