#include "pageserver/wire.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "engine/base/error.h"

namespace godwit::pageserver {
namespace {

using kinds::PageImageId;

std::vector<std::byte> from_hex(const std::string& text) {
  std::vector<std::byte> bytes;
  std::string digits;
  for (char c : text) {
    if (c != ' ') digits += c;
  }
  for (size_t i = 0; i < digits.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(digits.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

std::vector<std::byte> copy(std::span<const std::byte> bytes) {
  return {bytes.begin(), bytes.end()};
}

std::optional<Layout> layout_of(const std::string& hex) {
  auto bytes = from_hex(hex);
  return detect_layout(std::span(bytes).first<kShortHeaderSize>());
}

std::string refusal(auto&& action) {
  try {
    action();
  } catch (const FormatError& error) {
    return error.what();
  }
  return "not refused";
}

// ADD_F, flags PE_PRESENT | PE_LAZY, 3 pages at 0x7f0000001000, image of pid 42.
const Header kAddition{Command::kAddFlags, 6, 3, 0x7f0000001000, 42 << 8 | 1};
const std::string kAdditionShort = "06000600 03000000 0010000000 7f0000 012a000000000000";
const std::string kAdditionLong = "06000600 00000000 0300000000000000 0010000000 7f0000 012a000000000000";

TEST_CASE("headers have the bytes of CRIU's two layouts") {
  CHECK(copy(EncodedHeader(kAddition, Layout::kShort).bytes()) == from_hex(kAdditionShort));
  CHECK(copy(EncodedHeader(kAddition, Layout::kLong).bytes()) == from_hex(kAdditionLong));
  CHECK(decode_header(from_hex(kAdditionShort), Layout::kShort) == kAddition);
  CHECK(decode_header(from_hex(kAdditionLong), Layout::kLong) == kAddition);
}

TEST_CASE("the padding of a long header means nothing") {
  CHECK(decode_header(from_hex("06000600 ffffffff 0300000000000000 0010000000 7f0000 012a000000000000"),
                      Layout::kLong) == kAddition);
}

TEST_CASE("a page count over 32 bits only fits the long layout") {
  Header big = kAddition;
  big.pages = uint64_t{1} << 32;
  CHECK_THROWS_AS(EncodedHeader(big, Layout::kShort), Error);
  CHECK(decode_header(EncodedHeader(big, Layout::kLong).bytes(), Layout::kLong) == big);
}

TEST_CASE("the first command shows the layout of a client") {
  // OPEN, OPEN2, PARENT: the dst_id stands in bytes 16..23 only in the short layout.
  for (const char* command : {"03000000", "04000000", "05000000"}) {
    CHECK(layout_of(std::string(command) + "00000000 0000000000000000 012a000000000000") == Layout::kShort);
    CHECK(layout_of(std::string(command) + "00000000 0000000000000000 0000000000000000") == Layout::kLong);
    // Garbage in the padding, or in the address of a short header, decides nothing.
    CHECK(layout_of(std::string(command) + "deadbeef 0000000000000000 0000000000000000") == Layout::kLong);
    CHECK(layout_of(std::string(command) + "00000000 1122334455667788 012a000000000000") == Layout::kShort);
  }
  // GET: an address in bytes 8..15 in the short layout, a page count in the long one.
  CHECK(layout_of("07000000 10000000 0010000000 7f0000 2a00000000000000") == Layout::kShort);
  CHECK(layout_of("07000000 01000000 0000010000000000 2a00000000000000") == Layout::kShort);
  CHECK(layout_of("07000000 00000000 1000000000000000 0010000000 7f0000") == Layout::kLong);
  CHECK(layout_of("07000000 7b7b7b7b 0104000000000000 0010000000 7f0000") == Layout::kLong);
  CHECK_FALSE(layout_of("23100000 00000000 0000000000000000 0000000000000000").has_value());
  CHECK_FALSE(layout_of("24100000 00000000 0000000000000000 0000000000000000").has_value());
}

TEST_CASE("a stranger is refused with its first bytes") {
  CHECK(refusal([] { layout_of("474554202f20485454502f312e310d0a486f73743a206100"); }) ==
        "not a page-server client: it begins with 47 45 54 20 2f 20 48 54 \"GET / HT\"");
  CHECK(refusal([] { layout_of("16030100f8010000f40303000000000000000000000000000"); }).find("TLS") !=
        std::string::npos);
  CHECK(refusal([] { layout_of("06000400 01000000 0010000000 7f0000 012a000000000000"); }) ==
        "a page-server client may not begin with command 6");
}

TEST_CASE("unknown commands in mid-stream are refused") {
  CHECK(refusal([] {
          decode_header(from_hex("08000000 00000000 0000000000000000 0000000000000000"), Layout::kShort);
        }) == "page-server command 0x8 is unknown");
}

TEST_CASE("image ids have CRIU's numbers, old and new") {
  PageImageId task{PageImageId::Type::kTask, 42}, memory{PageImageId::Type::kSharedMemory, 42};
  CHECK(encode_image_id(task) == 0x2a01);
  CHECK(encode_image_id(memory) == 0x2a02);
  for (uint64_t type : {1, 10, 11, 16, 17}) CHECK(decode_image_id(42 << 8 | type) == task);
  for (uint64_t type : {2, 27, 28, 29, 32, 33, 34}) CHECK(decode_image_id(42 << 8 | type) == memory);
  CHECK(refusal([] { decode_image_id(42 << 8 | 3); }) == "dst_id 0x2a03: unknown image type 3");
  CHECK(refusal([] { decode_image_id(1); }) == "dst_id 0x1: 0 is no pid");
  CHECK(refusal([] { decode_image_id(uint64_t{1} << 39 | 1); }) != "not refused");
}

TEST_CASE("ranges are bounded before anybody believes them") {
  auto range_of = [](uint64_t address, uint64_t pages) {
    return checked_range({Command::kAddFlags, 4, pages, address, 0});
  };
  CHECK(range_of(0, 1) == kinds::PageRange{0, 1});  // shared memory begins at 0
  CHECK(range_of(0, uint64_t{1} << 44).pages == uint64_t{1} << 44);
  CHECK(refusal([&] { range_of(0x1001, 1); }) == "address 0x1001 is not page aligned");
  CHECK(refusal([&] { range_of(0x1000, 0); }) == "no pages at 0x1000");
  CHECK(refusal([&] { range_of(0x1000, uint64_t{1} << 44); }) != "not refused");
  CHECK(refusal([&] { range_of(0x1000, ~uint64_t{0}); }) != "not refused");
  CHECK(refusal([&] { range_of(~uint64_t{0xfff}, 1); }) != "not refused");
}

}  // namespace
}  // namespace godwit::pageserver
