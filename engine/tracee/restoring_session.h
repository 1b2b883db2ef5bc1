#pragma once

#include "engine/tracee/batch_session.h"

namespace godwit::tracee {

// In a task that is being rebuilt, and that dies with us. The scratch is one range at an address that the
// restore has chosen: a head page, a code page per thread, the rest for data.
class RestoringSession final : public BatchSession {
 public:
  RestoringSession(Tracee& seed, RemoteRange scratch, unsigned threads, std::chrono::milliseconds timeout);
  // For a process that has a copy of the other one's scratch.
  RestoringSession(const RestoringSession& parent, pid_t child);

  void leave(Tracee& tracee, const user_regs_struct& registers, uint64_t signal_mask);
  void unmap_and_leave(Tracee& tracee, const user_regs_struct& registers, uint64_t signal_mask);

 private:
  void prepare(Worker& worker, Tracee& tracee) override;
  RemoteAddress take_code_page(Worker& worker) override;
  void grow_data(Worker& worker, uint64_t size) override;

  uint64_t code_size() const { return (1 + uint64_t{threads_}) * kPageSize; }
  void divide_scratch();
  void step_to_system_call_stop(pid_t tid);

  RemoteRange scratch_;
  unsigned threads_;
  std::chrono::milliseconds timeout_;
};

}  // namespace godwit::tracee
