#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "engine/kinds/page_sink.h"

namespace godwit::lazypages {

// Pages by address, kept as ranges that neither overlap nor touch.
class RangeSet {
 public:
  void add(kinds::PageRange range);
  void remove(kinds::PageRange range);

  bool empty() const { return ranges_.empty(); }
  bool contains(uint64_t address) const { return end_of(address).has_value(); }
  // The end (bytes) of the range that holds this address.
  std::optional<uint64_t> end_of(uint64_t address) const;
  // The first address in the set at or behind this one.
  std::optional<uint64_t> next(uint64_t address) const;

 private:
  std::map<uint64_t, uint64_t> ranges_;  // start -> end, bytes
};

}  // namespace godwit::lazypages
