#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "engine/kinds/page_sink.h"

// CRIU's page-server protocol: headers, little endian, in two layouts, some followed by pages.
namespace godwit::pageserver {

// kShort: CRIU before 4.2: u32 command, u32 pages, u64 address, u64 dst_id.
// kLong: 4.2 on: u32 command, u32 padding (anything), u64 pages, u64 address, u64 dst_id.
enum class Layout { kShort, kLong };
inline constexpr size_t kShortHeaderSize = 24;
inline constexpr size_t kLongHeaderSize = 32;
constexpr size_t header_size(Layout layout) {
  return layout == Layout::kShort ? kShortHeaderSize : kLongHeaderSize;
}

enum class Command : uint16_t {
  kAdd = 1,         // present pages follow (old clients)
  kHole = 2,        // pages are in the parent (old clients)
  kOpen = 3,        // open image dst_id; no answer
  kOpen2 = 4,       // open image dst_id; answer: 1 byte, has it a parent
  kParent = 5,      // answer: i32, has dst_id a parent image
  kAddFlags = 6,    // a pagemap entry with flags; its pages follow if it is present
  kGet = 7,         // post-copy: answer: kAddFlags and pages, perhaps fewer than asked for; dst_id is the pid
  kClose = 0x1023,  // everything sent; answer: i32 status once it is stored
  kForceClose = 0x1024,  // the same, and a lazy server stops
};

// Pagemap flags as they stand in images and in the high half of a command word.
inline constexpr uint16_t kInParent = 1;
inline constexpr uint16_t kLazy = 2;
inline constexpr uint16_t kPresent = 4;

struct Header {
  Command command = Command::kClose;
  uint16_t flags = 0;
  uint64_t pages = 0;
  uint64_t address = 0;
  uint64_t dst_id = 0;
  bool operator==(const Header&) const = default;
};

// A header as it goes over the wire.
class EncodedHeader {
 public:
  // Throws Error when the page count does not fit the layout (kShort: 32 bits).
  EncodedHeader(const Header& header, Layout layout);
  std::span<const std::byte> bytes() const { return std::span(bytes_).first(size_); }

 private:
  std::array<std::byte, kLongHeaderSize> bytes_{};
  size_t size_;
};

// `bytes` is header_size(layout) long. Throws FormatError for an unknown command.
Header decode_header(std::span<const std::byte> bytes, Layout layout);

// The layout that a client speaks, from the first 24 bytes it sent; empty for a close, which looks alike in
// both. Throws FormatError that shows the bytes when this is no page-server client.
std::optional<Layout> detect_layout(std::span<const std::byte, kShortHeaderSize> bytes);

// dst_id of everything but kGet: id << 8 | type.
uint64_t encode_image_id(kinds::PageImageId id);
// Knows the type numbers of all CRIU versions. Throws FormatError for others and for impossible pids.
kinds::PageImageId decode_image_id(uint64_t dst_id);

// The pages that a header speaks of: aligned, at least one, inside a user address space. Throws FormatError.
kinds::PageRange checked_range(const Header& header);

}  // namespace godwit::pageserver
