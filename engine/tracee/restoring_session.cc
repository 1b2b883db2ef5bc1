#include "engine/tracee/restoring_session.h"

#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "engine/base/error.h"
#include "engine/base/units.h"
#include "engine/tracee/ptrace_call.h"

namespace godwit::tracee {
namespace {

constexpr uint64_t kNoFile = static_cast<uint64_t>(-1);
constexpr uint64_t kAllSignals = ~uint64_t{0};
constexpr uint64_t kStubAlign = 16;

}  // namespace

RestoringSession::RestoringSession(Tracee& seed, RemoteRange scratch, unsigned threads,
                                   std::chrono::milliseconds timeout)
    : BatchSession(seed.pid(), timeout), scratch_(scratch), threads_(threads), timeout_(timeout) {
  if (scratch.size < code_size() + kPageSize) {
    throw Error("pid {}: a scratch of {} bytes is too small for {} threads", seed.pid(), scratch.size,
                threads);
  }
  Worker worker;
  worker.slot.pid = seed.pid();
  worker.slot.tid = seed.tid();
  runner_.prepare_restored(worker.slot, seed);
  // The seed's own code is there to be overwritten.
  RemoteAddress place{(seed.registers().rip + kStubAlign - 1) & ~(kStubAlign - 1)};
  int64_t mapped = runner_.bootstrap_call(worker.slot, place, SYS_mmap,
                                          {scratch.start.value, scratch.size, PROT_READ | PROT_EXEC,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, kNoFile, 0});
  if (mapped != static_cast<int64_t>(scratch.start.value)) {
    throw SystemError(mapped < 0 ? static_cast<int>(-mapped) : EEXIST, "pid {}: mapping the scratch at {}",
                      seed.pid(), scratch.start);
  }
  memory_.write_object(scratch.start, kScratchMagic);
  divide_scratch();
  worker.slot.code = take_code_page(worker);
  runner_.install_stub(worker.slot);
  RemoteAddress data = scratch.start + code_size();
  int64_t result = runner_.call(worker.slot, SYS_mprotect,
                                {data.value, scratch.size - code_size(), PROT_READ | PROT_WRITE});
  if (result < 0) throw SystemError(static_cast<int>(-result), "pid {}: mprotect of the scratch", seed.pid());
  memory_.write_object(data, kScratchMagic);
  workers_[seed.tid()] = std::move(worker);
}

RestoringSession::RestoringSession(const RestoringSession& parent, pid_t child)
    : BatchSession(child, parent.timeout_),
      scratch_(parent.scratch_),
      threads_(parent.threads_),
      timeout_(parent.timeout_) {
  divide_scratch();
}

void RestoringSession::divide_scratch() {
  areas_.push_back(scratch_);
  for (uint64_t i = threads_; i >= 1; --i) free_code_.push_back(scratch_.start + i * kPageSize);
  RemoteAddress data = scratch_.start + code_size();
  pool_.add({data + kScratchHeadSize, scratch_.size - code_size() - kScratchHeadSize});
}

void RestoringSession::prepare(Worker& worker, Tracee& tracee) {
  runner_.prepare_restored(worker.slot, tracee);
}

RemoteAddress RestoringSession::take_code_page(Worker& worker) {
  if (free_code_.empty()) {
    throw Error("pid {} (thread {}): the scratch was made for {} threads", worker.slot.pid, worker.slot.tid,
                threads_);
  }
  RemoteAddress page = free_code_.back();
  free_code_.pop_back();
  return page;
}

void RestoringSession::grow_data(Worker& worker, uint64_t size) {
  throw Error("pid {}: a batch of {} bytes does not fit into a scratch of {}", worker.slot.pid, size,
              scratch_.size);
}

void RestoringSession::leave(Tracee& tracee, const user_regs_struct& registers, uint64_t signal_mask) {
  if (Worker* worker = find_worker(tracee)) {
    return_held_signals(*worker);
    free_code_.push_back(worker->slot.code);
    workers_.erase(tracee.tid());
  }
  tracee.set_signal_mask(signal_mask);
  tracee.set_registers(registers);
}

// The thread is caught at the exit of the call, before it would go on where nothing is mapped any more.
void RestoringSession::unmap_and_leave(Tracee& tracee, const user_regs_struct& registers,
                                       uint64_t signal_mask) {
  Worker& worker = worker_of(tracee);
  return_held_signals(worker);
  tracee.set_signal_mask(kAllSignals);
  RemoteAddress stub = worker.slot.code;
  RemoteAddress call = stub + stub_code().size() + sizeof(StubState);
  StubDescriptor munmap{.nr = SYS_munmap,
                        .arguments = {scratch_.start.value, scratch_.size},
                        .result = kStubNotRun,
                        .flags = 0};
  StubState state = worker.slot.state;
  state.mode = 0;
  state.descriptors = call.value;
  state.count = 1;
  memory_.write_object(call, munmap);
  memory_.write_object(stub + stub_code().size(), state);
  user_regs_struct entry = tracee.registers();
  entry.rip = stub.value;
  entry.orig_rax = static_cast<uint64_t>(-1);
  tracee.set_registers(entry);
  step_to_system_call_stop(tracee.tid());
  step_to_system_call_stop(tracee.tid());
  auto result = static_cast<int64_t>(tracee.registers().rax);
  if (result < 0) throw SystemError(static_cast<int>(-result), "pid {}: unmapping the scratch", tracee.pid());
  workers_.erase(tracee.tid());
  areas_.clear();
  user_regs_struct final_registers = registers;
  tracee.set_registers(final_registers);
  tracee.set_signal_mask(signal_mask);
}

void RestoringSession::step_to_system_call_stop(pid_t tid) {
  KernelWaiter waiter;
  Deadline deadline;
  if (timeout_.count() > 0) deadline = Clock::now() + timeout_;
  resume_to_system_call(tid);
  auto at_call = [](WaitStatus status) { return status.at_system_call(); };
  // SIGSTOP from outside; all others are blocked.
  auto go_on = [tid](WaitStatus status) { resume_to_system_call(tid, status.delivery_signal()); };
  auto status = wait_until(waiter, tid, deadline, at_call, go_on);
  if (!status) throw Error("tid {}: unmapping the scratch did not end in time", tid);
  if (status->is_dead()) throw Error("tid {} {} while it left the scratch", tid, status->describe());
}

}  // namespace godwit::tracee
