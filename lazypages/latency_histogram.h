#pragma once

#include <array>
#include <chrono>
#include <cstdint>

namespace godwit::lazypages {

// Durations, counted in classes no wider than an eighth of their value, up to hours.
class LatencyHistogram {
 public:
  using Duration = std::chrono::nanoseconds;

  void record(Duration duration);
  uint64_t count() const { return count_; }
  Duration longest() const { return longest_; }
  // The upper end of the class that holds this quantile (0 to 1); 0 when nothing was recorded.
  Duration quantile(double fraction) const;

 private:
  static constexpr unsigned kClassesPerOctave = 8;
  static size_t class_of(uint64_t nanoseconds);
  static uint64_t upper_end(size_t index);

  std::array<uint64_t, 48 * kClassesPerOctave> classes_{};
  uint64_t count_ = 0;
  Duration longest_{};
};

}  // namespace godwit::lazypages
