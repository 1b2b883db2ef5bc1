#pragma once

#include <cstdint>
#include <optional>

#include "engine/kinds/page_sink.h"

namespace godwit::lazypages {

// What the faults of one address space say about the pages that it needs next: memory is mostly read
// upwards, and the longer that has gone on, the further it will.
class Prediction {
 public:
  static constexpr uint64_t kLeastPages = 15;  // behind a fault: 64 KiB with the page itself
  static constexpr uint64_t kMostPages = 511;

  void fault(uint64_t address);
  // What to fetch before anything else that nobody waits for; by address, not by image address.
  std::optional<kinds::PageRange> range() const;
  // Pages before this address were asked for.
  void asked_until(uint64_t address);
  void forget() { start_ = end_ = 0; }

 private:
  uint64_t last_fault_ = 0;
  uint64_t predicted_end_ = 0;  // of the last prediction
  uint64_t pages_ = kLeastPages;
  uint64_t start_ = 0, end_ = 0;  // what is left of it
};

}  // namespace godwit::lazypages
