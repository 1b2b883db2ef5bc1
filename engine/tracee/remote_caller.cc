#include "engine/tracee/remote_caller.h"

#include <sys/ptrace.h>

#include "engine/base/error.h"
#include "engine/tracee/restoring_session.h"
#include "engine/tracee/running_session.h"
#include "engine/tracee/seed.h"

namespace godwit::tracee {
namespace {

RestoringSession& restoring(const std::unique_ptr<BatchSession>& session) {
  auto* found = dynamic_cast<RestoringSession*>(session.get());
  if (found == nullptr) throw Error("this is for tasks that are being restored");
  return *found;
}

// A task is born within microseconds; this only catches hangs.
constexpr std::chrono::seconds kBirthPatience{10};

}  // namespace

RemoteCaller::RemoteCaller(std::unique_ptr<BatchSession> session) : session_(std::move(session)) {}
RemoteCaller::RemoteCaller(RemoteCaller&&) noexcept = default;
RemoteCaller& RemoteCaller::operator=(RemoteCaller&&) noexcept = default;
RemoteCaller::~RemoteCaller() = default;

RemoteCaller RemoteCaller::for_running(std::span<Tracee> threads, Timeout timeout) {
  if (threads.empty()) throw Error("no threads to run system calls in");
  return RemoteCaller(std::make_unique<RunningSession>(threads, timeout));
}

RemoteCaller RemoteCaller::for_restore(Tracee& seed, RemoteAddress hole, uint64_t size, unsigned threads,
                                       Timeout timeout) {
  return RemoteCaller(std::make_unique<RestoringSession>(seed, RemoteRange{hole, size}, threads, timeout));
}

RemoteCaller RemoteCaller::for_forked_child(const Tracee& child) const {
  return RemoteCaller(std::make_unique<RestoringSession>(restoring(session_), child.pid()));
}

BatchResults RemoteCaller::run(Tracee& tracee, const Batch& batch) {
  session_->start(tracee, batch);
  return session_->finish(tracee);
}

void RemoteCaller::start(Tracee& tracee, const Batch& batch) {
  session_->start(tracee, batch);
}

BatchResults RemoteCaller::finish(Tracee& tracee) {
  return session_->finish(tracee);
}

const RemoteMemory& RemoteCaller::memory() const {
  return session_->memory();
}

std::vector<RemoteRange> RemoteCaller::scratch() const {
  return session_->areas();
}

void RemoteCaller::cure() {
  if (auto* running = dynamic_cast<RunningSession*>(session_.get())) running->cure();
}

void RemoteCaller::leave(Tracee& tracee, const user_regs_struct& registers, uint64_t signal_mask) {
  restoring(session_).leave(tracee, registers, signal_mask);
}

void RemoteCaller::unmap_scratch_and_leave(Tracee& tracee, const user_regs_struct& registers,
                                           uint64_t signal_mask) {
  restoring(session_).unmap_and_leave(tracee, registers, signal_mask);
}

Tracee RemoteCaller::adopt(pid_t pid, pid_t tid) {
  Tracee tracee = Tracee::already_attached(pid, tid, restore_options());
  KernelWaiter waiter;
  auto stop = waiter.wait(tid, Clock::now() + kBirthPatience);
  if (!stop) throw Error("pid {} (thread {}): did not stop at its birth", pid, tid);
  if (stop->is_dead()) {
    tracee.forget();
    throw Error("pid {} (thread {}) {} at its birth", pid, tid, stop->describe());
  }
  tracee.capture(*stop);
  return tracee;
}

}  // namespace godwit::tracee
