#pragma once

#include <fmt/format.h>

#include <compare>
#include <cstdint>

namespace godwit::tracee {

// An address in a tracee. Its own type, so that nobody takes it for a pointer of ours. Printed as 0x7f....
struct RemoteAddress {
  uint64_t value = 0;

  auto operator<=>(const RemoteAddress&) const = default;
  explicit operator bool() const { return value != 0; }
};

constexpr RemoteAddress operator+(RemoteAddress address, uint64_t bytes) {
  return {address.value + bytes};
}
constexpr RemoteAddress operator-(RemoteAddress address, uint64_t bytes) {
  return {address.value - bytes};
}
// The distance in bytes.
constexpr uint64_t operator-(RemoteAddress end, RemoteAddress start) {
  return end.value - start.value;
}

}  // namespace godwit::tracee

template <>
struct fmt::formatter<godwit::tracee::RemoteAddress> : fmt::formatter<uint64_t> {
  constexpr auto parse(format_parse_context& context) { return context.begin(); }
  template <class Context>
  auto format(godwit::tracee::RemoteAddress address, Context& context) const {
    return fmt::format_to(context.out(), "{:#x}", address.value);
  }
};
