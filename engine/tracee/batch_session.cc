#include "engine/tracee/batch_session.h"

#include <sys/syscall.h>

#include <utility>

#include "engine/base/error.h"
#include "engine/base/log.h"

namespace godwit::tracee {

BatchSession::Worker* BatchSession::find_worker(const Tracee& tracee) {
  auto it = workers_.find(tracee.tid());
  return it == workers_.end() ? nullptr : &it->second;
}

BatchSession::Worker& BatchSession::worker_of(Tracee& tracee) {
  if (Worker* known = find_worker(tracee)) return *known;
  Worker worker;
  worker.slot.pid = tracee.pid();
  worker.slot.tid = tracee.tid();
  prepare(worker, tracee);
  try {
    worker.slot.code = take_code_page(worker);
    runner_.install_stub(worker.slot);
  } catch (...) {
    // It may have run a call for its page; nobody else would send it home.
    if (!worker.slot.in_batch && worker.slot.tid != 0) runner_.send_home(worker.slot);
    throw;
  }
  return workers_[tracee.tid()] = std::move(worker);
}

void BatchSession::start(Tracee& tracee, const Batch& batch) {
  start(worker_of(tracee), batch);
}

void BatchSession::start(Worker& worker, const Batch& batch) {
  if (worker.image) throw Error("pid {} (thread {}) runs a batch already", worker.slot.pid, worker.slot.tid);
  uint64_t size = BatchImage::size_of(batch);
  auto place = pool_.take(size);
  if (!place) {
    grow_data(worker, size);
    place = pool_.take(size);
    if (!place) throw Error("pid {}: a batch of {} bytes does not fit", worker.slot.pid, size);
  }
  worker.image.emplace(batch, *place);
  worker.image->write(memory_);
  runner_.launch(worker.slot, *place, worker.image->call_count());
}

BatchResults BatchSession::finish(Tracee& tracee) {
  Worker* worker = find_worker(tracee);
  if (worker == nullptr) throw Error("pid {} (thread {}) runs no batch", tracee.pid(), tracee.tid());
  return finish(*worker);
}

BatchResults BatchSession::finish(Worker& worker) {
  if (!worker.image) throw Error("pid {} (thread {}) runs no batch", worker.slot.pid, worker.slot.tid);
  runner_.await_end(worker.slot);
  BatchImage image = *std::exchange(worker.image, std::nullopt);
  BatchResults results = image.read(memory_);
  results.new_tasks_ = worker.slot.new_tasks;
  pool_.give_back(image.place());
  return results;
}

void BatchSession::return_held_signals(Worker& worker) {
  Slot& slot = worker.slot;
  if (slot.held.empty()) return;
  if (slot.spare_signal == 0) {
    log::warning("pid {} (thread {}): {} signals {} were lost", slot.pid, slot.tid, slot.held.size(),
                 slot.end.signal);
    return;
  }
  // With the other signal as the end of this batch, the one that is sent again stays blocked and queued.
  int signal = std::exchange(slot.end.signal, slot.spare_signal);
  Batch batch;
  for (const siginfo_t& info : std::exchange(slot.held, {})) {
    auto data = batch.put_object(info);
    if (info.si_code == SI_TKILL) {
      batch.call(SYS_rt_tgsigqueueinfo, {slot.state.tgid, slot.state.tid, signal, data},
                 OnFailure::kContinue);
    } else {
      batch.call(SYS_rt_sigqueueinfo, {slot.state.tgid, signal, data}, OnFailure::kContinue);
    }
  }
  start(worker, batch);
  finish(worker);
}

}  // namespace godwit::tracee
