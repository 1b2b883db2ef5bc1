#pragma once

#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

namespace godwit {

// The bytes of one trivially copyable object.
template <class T>
requires std::is_trivially_copyable_v<T> std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}
template <class T>
requires std::is_trivially_copyable_v<T> std::span<std::byte> writable_bytes_of(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

// Whether every byte is zero; vectorised by the compiler for whole pages.
bool all_zero(std::span<const std::byte> bytes);

}  // namespace godwit
