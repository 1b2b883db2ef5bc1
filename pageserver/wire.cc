#include "pageserver/wire.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <string>

#include "engine/base/error.h"
#include "engine/base/units.h"

namespace godwit::pageserver {
namespace {

static_assert(std::endian::native == std::endian::little, "headers are copied as they stand in memory");

constexpr unsigned kFlagsShift = 16;
constexpr unsigned kTypeBits = 8;
// User addresses with five-level page tables.
constexpr uint64_t kAddressLimit = uint64_t{1} << 56;
// In a GET the bytes 8..15 are an address in the short layout and a page count in the long one; nothing can
// be mapped below this, and nobody asks for so many pages at once.
constexpr uint64_t kLowestAddress = 0x10000;
constexpr uint64_t kMostPids = uint64_t{1} << 31;

constexpr uint8_t kTaskType = 1;
constexpr uint8_t kSharedMemoryType = 2;
// CRIU before 3.3 used numbers of an enum that changed from release to release.
constexpr std::array<uint8_t, 5> kTaskTypes = {kTaskType, 10, 11, 16, 17};
constexpr std::array<uint8_t, 7> kSharedMemoryTypes = {kSharedMemoryType, 27, 28, 29, 32, 33, 34};

template <class T>
T get(std::span<const std::byte> bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

template <class T>
void put(std::span<std::byte> bytes, size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
}

std::optional<Command> known_command(uint32_t word) {
  auto command = static_cast<Command>(word & 0xffff);
  switch (command) {
    case Command::kAdd:
    case Command::kHole:
    case Command::kOpen:
    case Command::kOpen2:
    case Command::kParent:
    case Command::kAddFlags:
    case Command::kGet:
    case Command::kClose:
    case Command::kForceClose:
      return command;
  }
  return std::nullopt;
}

// "47 45 54 20 2f "GET /"": what an operator needs to recognise the program that connected.
std::string show_start(std::span<const std::byte> bytes) {
  std::string hexadecimal, text;
  for (std::byte byte : bytes.first(8)) {
    auto value = std::to_integer<unsigned char>(byte);
    hexadecimal += fmt::format("{:02x} ", value);
    text += value >= 0x20 && value < 0x7f ? static_cast<char>(value) : '.';
  }
  return fmt::format("{}\"{}\"", hexadecimal, text);
}

[[noreturn]] void refuse_stranger(std::span<const std::byte> bytes) {
  constexpr std::byte kTlsHandshake{0x16}, kTlsMajor{0x03};
  if (bytes[0] == kTlsHandshake && bytes[1] == kTlsMajor) {
    throw FormatError("the client speaks TLS, and this page server was started without --tls");
  }
  throw FormatError("not a page-server client: it begins with {}", show_start(bytes));
}

}  // namespace

EncodedHeader::EncodedHeader(const Header& header, Layout layout) : size_(header_size(layout)) {
  std::span<std::byte> bytes(bytes_);
  put<uint32_t>(bytes, 0, static_cast<uint32_t>(header.command) | uint32_t{header.flags} << kFlagsShift);
  if (layout == Layout::kShort) {
    if (header.pages > std::numeric_limits<uint32_t>::max()) {
      throw Error("{} pages do not fit the short header layout", header.pages);
    }
    put<uint32_t>(bytes, 4, static_cast<uint32_t>(header.pages));
  } else {
    put<uint64_t>(bytes, 8, header.pages);
  }
  put<uint64_t>(bytes, size_ - 16, header.address);
  put<uint64_t>(bytes, size_ - 8, header.dst_id);
}

Header decode_header(std::span<const std::byte> bytes, Layout layout) {
  auto word = get<uint32_t>(bytes, 0);
  auto command = known_command(word);
  if (!command) throw FormatError("page-server command {:#x} is unknown", word & 0xffff);
  Header header;
  header.command = *command;
  header.flags = static_cast<uint16_t>(word >> kFlagsShift);
  header.pages = layout == Layout::kShort ? get<uint32_t>(bytes, 4) : get<uint64_t>(bytes, 8);
  header.address = get<uint64_t>(bytes, header_size(layout) - 16);
  header.dst_id = get<uint64_t>(bytes, header_size(layout) - 8);
  return header;
}

std::optional<Layout> detect_layout(std::span<const std::byte, kShortHeaderSize> bytes) {
  auto command = known_command(get<uint32_t>(bytes, 0));
  if (!command) refuse_stranger(bytes);
  switch (*command) {
    case Command::kOpen:
    case Command::kOpen2:
    case Command::kParent:
      return get<uint64_t>(bytes, 16) != 0 ? Layout::kShort : Layout::kLong;
    case Command::kGet: {
      auto address = get<uint64_t>(bytes, 8);
      return address >= kLowestAddress && address % kPageSize == 0 ? Layout::kShort : Layout::kLong;
    }
    case Command::kClose:
    case Command::kForceClose:
      return std::nullopt;
    case Command::kAdd:
    case Command::kHole:
    case Command::kAddFlags:
      break;
  }
  throw FormatError("a page-server client may not begin with command {}", static_cast<unsigned>(*command));
}

uint64_t encode_image_id(kinds::PageImageId id) {
  bool task = id.type == kinds::PageImageId::Type::kTask;
  return id.id << kTypeBits | (task ? kTaskType : kSharedMemoryType);
}

kinds::PageImageId decode_image_id(uint64_t dst_id) {
  auto type = static_cast<uint8_t>(dst_id);
  uint64_t id = dst_id >> kTypeBits;
  if (std::ranges::find(kTaskTypes, type) != kTaskTypes.end()) {
    if (id == 0 || id >= kMostPids) throw FormatError("dst_id {:#x}: {} is no pid", dst_id, id);
    return {kinds::PageImageId::Type::kTask, id};
  }
  if (std::ranges::find(kSharedMemoryTypes, type) != kSharedMemoryTypes.end()) {
    return {kinds::PageImageId::Type::kSharedMemory, id};
  }
  throw FormatError("dst_id {:#x}: unknown image type {}", dst_id, type);
}

kinds::PageRange checked_range(const Header& header) {
  if (header.address % kPageSize != 0) throw FormatError("address {:#x} is not page aligned", header.address);
  if (header.pages == 0) throw FormatError("no pages at {:#x}", header.address);
  if (header.address >= kAddressLimit || header.pages > (kAddressLimit - header.address) / kPageSize) {
    throw FormatError("{} pages at {:#x} are outside every address space", header.pages, header.address);
  }
  return {header.address, header.pages};
}

}  // namespace godwit::pageserver
