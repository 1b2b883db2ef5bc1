#pragma once

#include <span>

#include "engine/tracee/batch_session.h"

namespace godwit::tracee {

// In a program that has been frozen and will run on. Everything that is done to it is done so that it can be
// left at any instant.
class RunningSession final : public BatchSession {
 public:
  RunningSession(std::span<Tracee> threads, std::chrono::milliseconds timeout);
  ~RunningSession() override;
  void cure();

 private:
  void prepare(Worker& worker, Tracee& tracee) override;
  RemoteAddress take_code_page(Worker& worker) override;
  void grow_data(Worker& worker, uint64_t size) override;

  void remove_leftovers(std::span<Tracee> threads);
  void rescue(Tracee& tracee);
  void begin(std::span<Tracee> threads);
  void map_first_area(Worker& home);
  RemoteAddress map_area(Slot& slot, uint64_t size);
  void add_code_pages(RemoteAddress area);
  void prepare_signal_frame(Worker& worker, Tracee& tracee);
  bool end_batches();
  void unmap_areas(Worker& home);

  std::vector<kernel::MapsEntry> maps_;  // as they were before us
  std::vector<RemoteRange> leftovers_;
  RemoteAddress bootstrap_;
  RemoteAddress growth_page_;  // a code page for mapping more code pages
  unsigned holes_ = 0;
};

}  // namespace godwit::tracee
