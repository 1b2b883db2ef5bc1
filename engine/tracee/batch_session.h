#pragma once

#include <map>
#include <optional>
#include <span>
#include <vector>

#include "engine/tracee/batch.h"
#include "engine/tracee/batch_image.h"
#include "engine/tracee/remote_caller.h"
#include "engine/tracee/scratch_pool.h"
#include "engine/tracee/slot_runner.h"

namespace godwit::tracee {

// What is behind a RemoteCaller: the scratch of one address space, who has which slot of it, and the batches
// that are under way.
class BatchSession {
 public:
  virtual ~BatchSession() = default;

  void start(Tracee& tracee, const Batch& batch);
  BatchResults finish(Tracee& tracee);
  const RemoteMemory& memory() const { return memory_; }
  const std::vector<RemoteRange>& areas() const { return areas_; }

 protected:
  struct Worker {
    Slot slot;
    std::optional<BatchImage> image;
  };

  BatchSession(pid_t pid, std::chrono::milliseconds timeout) : memory_(pid), runner_(memory_, timeout) {}

  // The thread's worker; a new one is given a code page.
  Worker& worker_of(Tracee& tracee);
  Worker* find_worker(const Tracee& tracee);
  void start(Worker& worker, const Batch& batch);
  BatchResults finish(Worker& worker);
  // Sends a worker the signals again that were taken for the end of its batches.
  void return_held_signals(Worker& worker);

  virtual void prepare(Worker& worker, Tracee& tracee) = 0;
  // A code page for one more worker.
  virtual RemoteAddress take_code_page(Worker& worker) = 0;
  // More data room, when `size` bytes do not fit.
  virtual void grow_data(Worker& worker, uint64_t size) = 0;

  RemoteMemory memory_;
  SlotRunner runner_;
  ScratchPool pool_;
  std::vector<RemoteRange> areas_;
  std::vector<RemoteAddress> free_code_;
  std::map<pid_t, Worker> workers_;
};

}  // namespace godwit::tracee
