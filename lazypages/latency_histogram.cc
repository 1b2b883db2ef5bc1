#include "lazypages/latency_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace godwit::lazypages {

void LatencyHistogram::record(Duration duration) {
  ++classes_[std::min(class_of(static_cast<uint64_t>(std::max<int64_t>(duration.count(), 0))),
                      classes_.size() - 1)];
  ++count_;
  longest_ = std::max(longest_, duration);
}

LatencyHistogram::Duration LatencyHistogram::quantile(double fraction) const {
  auto rank = static_cast<uint64_t>(std::ceil(fraction * static_cast<double>(count_)));
  uint64_t seen = 0;
  for (size_t i = 0; i < classes_.size(); ++i) {
    seen += classes_[i];
    if (seen >= std::max<uint64_t>(rank, 1)) {
      return std::min(Duration(static_cast<int64_t>(upper_end(i))), longest_);
    }
  }
  return {};
}

// The first octave's values stand for themselves; above, the three bits behind the highest one count.
size_t LatencyHistogram::class_of(uint64_t nanoseconds) {
  if (nanoseconds < kClassesPerOctave) return nanoseconds;
  auto octave = static_cast<unsigned>(std::bit_width(nanoseconds)) - 4;
  return (octave + 1) * kClassesPerOctave + (nanoseconds >> octave) % kClassesPerOctave;
}

uint64_t LatencyHistogram::upper_end(size_t index) {
  if (index < kClassesPerOctave) return index;
  size_t octave = index / kClassesPerOctave - 1;
  return ((kClassesPerOctave + index % kClassesPerOctave + 1) << octave) - 1;
}

}  // namespace godwit::lazypages
