#pragma once

#include <cstddef>
#include <cstdint>

namespace godwit {

inline constexpr size_t kKiB = 1024;
inline constexpr size_t kMiB = 1024 * kKiB;
inline constexpr size_t kGiB = 1024 * kMiB;

// The page size of x86-64, the only architecture of this engine; images count in it.
inline constexpr uint64_t kPageSize = 4096;

inline constexpr uint64_t page_down(uint64_t address) {
  return address & ~(kPageSize - 1);
}
inline constexpr uint64_t page_up(uint64_t address) {
  return (address + kPageSize - 1) & ~(kPageSize - 1);
}

}  // namespace godwit
