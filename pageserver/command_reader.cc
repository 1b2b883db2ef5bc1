#include "pageserver/command_reader.h"

#include <array>

#include "engine/base/error.h"

namespace godwit::pageserver {

std::optional<Header> CommandReader::next() {
  std::array<std::byte, kLongHeaderSize> bytes;
  auto start = std::span(bytes).first(first_ || !layout_ ? kShortHeaderSize : header_size(*layout_));
  if (!read_start(start)) return std::nullopt;
  if (first_) {
    first_ = false;
    return read_first(bytes);
  }
  return decode_header(start, layout());
}

// Fills `bytes`; false at the end of the stream before the first of them.
bool CommandReader::read_start(std::span<std::byte> bytes) {
  auto timeout = first_ ? tls::Stream::Timeout(limits_.first_command) : std::nullopt;
  auto count = stream_.read_within(bytes, timeout);
  if (!count) throw tls::TimeoutError("the client sent no command for {} ms", limits_.first_command.count());
  if (*count == 0) return false;
  stream_.set_timeout(limits_.rest_of_message);
  stream_.read_exactly(bytes.subspan(*count), "page-server header");
  return true;
}

Header CommandReader::read_first(std::span<std::byte> bytes) {
  layout_ = detect_layout(bytes.first<kShortHeaderSize>());
  if (layout_ == Layout::kLong) {
    stream_.read_exactly(bytes.subspan(kShortHeaderSize, kLongHeaderSize - kShortHeaderSize),
                         "page-server header");
  }
  return decode_header(bytes.first(header_size(layout())), layout());
}

}  // namespace godwit::pageserver
