#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "engine/kernel/userfaultfd.h"
#include "lazypages/missing_pages.h"
#include "lazypages/prediction.h"
#include "lazypages/statistics.h"

namespace godwit::lazypages {

// One address space that has pages to come: a restored task, or a child that it has forked since.
class LazyTask {
 public:
  using Clock = std::chrono::steady_clock;

  // `id` tells it from all others of this daemon.
  LazyTask(uint32_t id, kernel::Userfaultfd userfaults, MissingPages missing)
      : id_(id), userfaults_(std::move(userfaults)), missing_(std::move(missing)) {}

  struct Events {
    std::vector<uint64_t> faults;  // page addresses
    std::vector<std::unique_ptr<LazyTask>> children;
  };
  // Reads and follows all that is due: what the task unmaps, discards, moves, and its forks, whose ids are
  // taken from `next_id`. Faults are looked up by the caller afterwards, because an earlier event may have
  // been read behind them.
  Events read_events(uint32_t& next_id, Statistics& statistics);

  // Whether a fault at this address waits for a page of the image: its image address.
  std::optional<uint64_t> wait_for(uint64_t address, Clock::time_point now);
  // A fault where nothing is missing: a page of zeros, or one that came in the meantime. False: the address
  // space is changing, ask again after its events.
  bool settle_empty(uint64_t address);

  // Puts what it misses of these pages of the image into place. False: the address space is changing; the
  // rest is still missing and is to be placed after its events.
  bool place(kinds::PageRange image, std::span<const std::byte> bytes, Statistics& statistics);

  // The image addresses in this range that somebody waits for.
  std::vector<uint64_t> waits_in(kinds::PageRange image) const;
  // Touching what is still missing will be a SIGBUS. False where the kernel cannot.
  bool poison_missing();

  uint32_t id() const { return id_; }
  int fd() const { return userfaults_.fd(); }
  const MissingPages& missing() const { return missing_; }
  // Nothing is left to do for it.
  bool is_done() const { return gone_ || missing_.empty(); }
  // Asks the kernel.
  bool has_ended() { return gone_ = gone_ || userfaults_.is_gone(); }

  Prediction prediction;
  uint64_t cursor = 0;              // of the sweep
  std::vector<uint64_t> unsettled;  // faults to look at again

 private:
  void follow(const uffd_msg& message, Events& events, uint32_t& next_id, Statistics& statistics);
  void give_up(uint64_t start, uint64_t end, Statistics& statistics);
  void look_again(uint64_t start, uint64_t end);
  bool place_run(const MissingRun& run, std::span<const std::byte> bytes);
  void end_waits(const MissingRun& run, Statistics& statistics);

  uint32_t id_;
  kernel::Userfaultfd userfaults_;
  MissingPages missing_;
  std::map<uint64_t, Clock::time_point> waits_;  // by address: since when
  bool gone_ = false;
};

}  // namespace godwit::lazypages
