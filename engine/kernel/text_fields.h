#pragma once

#include <charconv>
#include <string_view>

#include "engine/base/error.h"

namespace godwit::kernel {

// Numbers out of /proc text: the whole of `text` in this base, or FormatError that names `what`.
template <class Number>
Number parse_number(std::string_view text, const char* what, int base = 10) {
  Number value{};
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (code != std::errc{} || end != text.data() + text.size())
    throw FormatError("{}: not a number: '{}'", what, text);
  return value;
}

// Cuts the next piece off the front of `text`, up to `separator` or the end, and skips the separator.
inline std::string_view take_until(std::string_view& text, char separator) {
  size_t at = text.find(separator);
  std::string_view piece = text.substr(0, at);
  text.remove_prefix(at == std::string_view::npos ? text.size() : at + 1);
  return piece;
}

// Cuts the next word off the front of `text`; any run of blanks and tabs separates words. Empty at the end.
inline std::string_view take_word(std::string_view& text) {
  size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) {
    text = {};
    return {};
  }
  text.remove_prefix(begin);
  size_t end = text.find_first_of(" \t");
  std::string_view word = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end);
  return word;
}

}  // namespace godwit::kernel
