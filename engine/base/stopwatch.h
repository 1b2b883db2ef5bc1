#pragma once

#include <chrono>
#include <cstdint>

namespace godwit {

// The time since it was made, on the monotonic clock.
class Stopwatch {
 public:
  // As statistics images count it.
  uint32_t microseconds() const {
    return static_cast<uint32_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - start_)
            .count());
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace godwit
