#include "engine/kernel/page_map.h"

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/base/mapping.h"
#include "engine/base/units.h"

namespace godwit::kernel {
namespace {

// 4096 pages, of which every seventh stays untouched: more regions than the kernel returns in one piece.
struct Fragmented {
  static constexpr size_t kPages = 4096;
  Mapping mapping = Mapping::anonymous(kPages * kPageSize);
  Fragmented() {
    ::madvise(mapping.data(), mapping.size(), MADV_NOHUGEPAGE);
    for (size_t page = 0; page < kPages; ++page) {
      if (page % 7 != 0) mapping.data()[page * kPageSize] = std::byte{1};
    }
  }
  uint64_t start() const { return reinterpret_cast<uint64_t>(mapping.data()); }
  uint64_t end() const { return start() + mapping.size(); }
};

void check_regions(const Fragmented& memory, const std::vector<PageRegion>& regions) {
  REQUIRE(regions.size() == 586 - 1);
  for (size_t i = 0; i < regions.size(); ++i) {
    CHECK(regions[i].start == memory.start() + (i * 7 + 1) * kPageSize);
    CHECK(regions[i].end == memory.start() + std::min((i + 1) * 7, Fragmented::kPages) * kPageSize);
  }
}

TEST_CASE("every owned page is found once, in order, however scattered") {
  Fragmented memory;
  std::vector<PageRegion> regions;
  PageMap(::getpid()).scan(memory.start(), memory.end(), kOwnedPages, regions);
  check_regions(memory, regions);
}

TEST_CASE("a kernel without PAGEMAP_SCAN gives the same answer") {
  Fragmented memory;
  std::vector<PageRegion> regions;
  PageMap pages(::getpid());
  pages.pretend_no_scan();
  pages.scan(memory.start(), memory.end(), kOwnedPages, regions);
  check_regions(memory, regions);
  CHECK_THROWS(pages.scan(memory.start(), memory.end(), {.all = kPageWritten}, regions));
}

TEST_CASE("the kernel's page of zeros is nobody's own") {
  Mapping mapping = Mapping::anonymous(16 * kPageSize);
  volatile std::byte seen = mapping.data()[5 * kPageSize];
  (void)seen;
  std::vector<PageRegion> regions;
  auto start = reinterpret_cast<uint64_t>(mapping.data());
  PageMap(::getpid()).scan(start, start + mapping.size(), kOwnedPages, regions);
  CHECK(regions.empty());
}

TEST_CASE("an area that is not write-protected has no answer to what was written") {
  Fragmented memory;
  std::vector<PageRegion> regions;
  CHECK_FALSE(
      PageMap(::getpid()).take_written_if_tracked(memory.start(), memory.end(), kOwnedPages, regions));
  CHECK(regions.empty());
}

}  // namespace
}  // namespace godwit::kernel
