#include "lazypages/prediction.h"

#include <algorithm>

#include "engine/base/units.h"

namespace godwit::lazypages {

void Prediction::fault(uint64_t address) {
  // A run of reads faults again in what is still on its way, or right behind it.
  bool goes_on = address > last_fault_ && address <= predicted_end_ + kPageSize;
  pages_ = goes_on ? std::min(pages_ * 2 + 1, kMostPages) : kLeastPages;
  last_fault_ = address;
  start_ = address + kPageSize;
  end_ = predicted_end_ = start_ + pages_ * kPageSize;
}

std::optional<kinds::PageRange> Prediction::range() const {
  if (start_ >= end_) return std::nullopt;
  return kinds::PageRange{start_, (end_ - start_) / kPageSize};
}

void Prediction::asked_until(uint64_t address) {
  start_ = std::max(start_, address);
}

}  // namespace godwit::lazypages
