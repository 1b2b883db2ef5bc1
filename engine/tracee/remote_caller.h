#pragma once

#include <sys/user.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/tracee/batch.h"
#include "engine/tracee/remote_memory.h"
#include "engine/tracee/scratch_place.h"
#include "engine/tracee/tracee.h"
#include "engine/tracee/waiter.h"

namespace godwit::tracee {

class BatchSession;

// Runs batches in the threads of one address space, from a scratch mapping there. Every thread that runs a
// batch has a slot in the scratch; batches of different threads and processes run at the same time. The
// calling thread must be the one that traces them.
//
// Of a running program (for_running): whatever instant we die at, the threads put themselves back and run on.
// Of a task that is being restored (for_restore and on): it must carry PTRACE_O_EXITKILL.
class RemoteCaller {
 public:
  // No time limit for a batch when zero.
  using Timeout = std::chrono::milliseconds;

  // `threads`: all threads of the frozen process. What a dead tracer left there is removed first: a thread
  // found in its stub gets its registers back (Tracee::frozen() changes), its scratch goes. Throws Error when
  // there is no place to start from (no executable mapping with an empty end, a 32-bit program, no free
  // signal).
  static RemoteCaller for_running(std::span<Tracee> threads, Timeout timeout = Timeout(10'000));

  // Maps the scratch at [hole, hole + size), where nothing may be mapped; `threads` is how many will run
  // batches there (a page each). Batches larger than the rest of it are an error.
  static RemoteCaller for_restore(Tracee& seed, RemoteAddress hole, uint64_t size, unsigned threads,
                                  Timeout timeout = Timeout(0));
  // The caller for a child that has a copy of this address space (fork).
  RemoteCaller for_forked_child(const Tracee& child) const;

  RemoteCaller(RemoteCaller&&) noexcept;
  RemoteCaller& operator=(RemoteCaller&&) noexcept;
  // Cures a running program if cure() was not called.
  ~RemoteCaller();

  // Runs the batch in this thread, to its end. Throws Error when the task dies or the time-out passes; a call
  // that fails is no error here.
  BatchResults run(Tracee& tracee, const Batch& batch);
  // The same in two steps: one batch per thread at a time.
  void start(Tracee& tracee, const Batch& batch);
  BatchResults finish(Tracee& tracee);

  // The task that a batch has just made (BatchResults::new_tasks), stopped before its first instruction.
  // `pid` is its process: its own number, or its creator's for a CLONE_THREAD.
  static Tracee adopt(pid_t pid, pid_t tid);

  const RemoteMemory& memory() const;
  // All that belongs to the scratch now; a dump leaves these ranges out.
  std::vector<RemoteRange> scratch() const;

  // A running program: every thread gets its registers, signal mask and held signals back, the scratch goes.
  // The threads stay stopped.
  void cure();
  // A restored one: the thread leaves the scratch with these registers and this mask, and runs no more
  // batches.
  void leave(Tracee& tracee, const user_regs_struct& registers, uint64_t signal_mask);
  // The same for the last thread: it unmaps the scratch with its last call. The thread stays stopped.
  void unmap_scratch_and_leave(Tracee& tracee, const user_regs_struct& registers, uint64_t signal_mask);

 private:
  explicit RemoteCaller(std::unique_ptr<BatchSession> session);
  std::unique_ptr<BatchSession> session_;
};

}  // namespace godwit::tracee
