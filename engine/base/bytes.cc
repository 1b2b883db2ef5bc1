#include "engine/base/bytes.h"

#include <cstdint>

namespace godwit {

bool all_zero(std::span<const std::byte> bytes) {
  // Most pages differ in their first word; then 256 bytes at a time, which the compiler turns into vector
  // ORs.
  const std::byte* at = bytes.data();
  size_t left = bytes.size();
  while (left >= 256) {
    uint64_t words[32];
    std::memcpy(words, at, sizeof words);
    uint64_t any = 0;
    for (uint64_t word : words) any |= word;
    if (any != 0) return false;
    at += 256;
    left -= 256;
  }
  for (; left > 0; --left, ++at) {
    if (*at != std::byte{0}) return false;
  }
  return true;
}

}  // namespace godwit
