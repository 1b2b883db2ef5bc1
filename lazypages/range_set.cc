#include "lazypages/range_set.h"

#include <algorithm>
#include <iterator>

#include "engine/base/units.h"

namespace godwit::lazypages {

void RangeSet::add(kinds::PageRange range) {
  uint64_t start = range.address;
  uint64_t end = start + range.pages * kPageSize;
  if (start == end) return;
  auto at = ranges_.upper_bound(start);
  if (at != ranges_.begin() && std::prev(at)->second >= start) --at;
  while (at != ranges_.end() && at->first <= end) {
    start = std::min(start, at->first);
    end = std::max(end, at->second);
    at = ranges_.erase(at);
  }
  ranges_.emplace(start, end);
}

void RangeSet::remove(kinds::PageRange range) {
  uint64_t start = range.address;
  uint64_t end = start + range.pages * kPageSize;
  if (start == end) return;
  auto at = ranges_.upper_bound(start);
  if (at != ranges_.begin() && std::prev(at)->second > start) --at;
  while (at != ranges_.end() && at->first < end) {
    auto [first, last] = *at;
    at = ranges_.erase(at);
    if (first < start) ranges_.emplace(first, start);
    if (last > end) ranges_.emplace(end, last);
  }
}

std::optional<uint64_t> RangeSet::end_of(uint64_t address) const {
  auto at = ranges_.upper_bound(address);
  if (at == ranges_.begin()) return std::nullopt;
  --at;
  if (at->second <= address) return std::nullopt;
  return at->second;
}

std::optional<uint64_t> RangeSet::next(uint64_t address) const {
  if (contains(address)) return address;
  auto at = ranges_.lower_bound(address);
  if (at == ranges_.end()) return std::nullopt;
  return at->first;
}

}  // namespace godwit::lazypages
