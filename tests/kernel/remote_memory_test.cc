#include "engine/tracee/remote_memory.h"

#include <sys/mman.h>

#include <cstring>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/mapping.h"
#include "engine/base/units.h"
#include "tests/support/child.h"
#include "tests/support/skip.h"

using namespace godwit;
using namespace godwit::tracee;

namespace {

// Pages that a child has a copy of: readable, without any access, unmapped, read-only.
struct Pages {
  Mapping mapping = Mapping::anonymous(64 * kPageSize);
  std::byte* page(size_t i) { return mapping.data() + i * kPageSize; }
  RemoteAddress address(size_t i) { return RemoteAddress{reinterpret_cast<uint64_t>(page(i))}; }

  Pages() {
    for (size_t i = 0; i < 64; ++i) std::memset(page(i), static_cast<int>(i + 1), kPageSize);
    ::mprotect(page(1), kPageSize, PROT_NONE);
    ::munmap(page(3), kPageSize);
    ::mprotect(page(4), kPageSize, PROT_READ);
  }
};

}  // namespace

TEST_CASE("memory without access is read, memory that is not there is named") {
  Pages pages;
  test::Child child([] { ::pause(); });
  RemoteMemory memory(child.pid());
  std::vector<std::byte> out(3 * kPageSize);
  memory.read(pages.address(0), out);
  CHECK(out[0] == std::byte{1});
  CHECK(out[kPageSize] == std::byte{2});
  CHECK(out[2 * kPageSize] == std::byte{3});
  std::vector<std::byte> more(6 * kPageSize);
  CHECK(memory.read_up_to(pages.address(0), more) == 3 * kPageSize);
  CHECK(memory.read_up_to(pages.address(3), more) == 0);
  std::string text;
  try {
    memory.read(pages.address(0), more);
  } catch (const SystemError& error) {
    text = error.what();
  }
  CHECK(text == fmt::format("pid {}: reading memory at {}: Bad address", child.pid(), pages.address(3)));
}

TEST_CASE("writing goes through a read-only mapping") {
  Pages pages;
  test::Child child([] { ::pause(); });
  RemoteMemory memory(child.pid());
  memory.write_object(pages.address(4) + 8, uint32_t{0xabcdef});
  CHECK(memory.read_object<uint32_t>(pages.address(4) + 8) == 0xabcdef);
  CHECK_THROWS_AS(memory.write_object(pages.address(3), 1), SystemError);
}

TEST_CASE("more ranges than one system call takes, some of them without access") {
  Pages pages;
  test::Child child([] { ::pause(); });
  RemoteMemory memory(child.pid());
  std::vector<RemoteRange> ranges;
  uint64_t total = 0;
  for (uint64_t i = 0; i < 3000; ++i) {
    size_t page = i % 60 + 4 == 4 ? 1 : i % 60 + 4;
    ranges.push_back({pages.address(page) + i % 7, 1 + i % 100});
    total += ranges.back().size;
  }
  std::vector<std::byte> out(total);
  memory.read_ranges(ranges, out);
  size_t at = 0, wrong = 0;
  for (uint64_t i = 0; i < 3000; ++i) {
    size_t page = i % 60 + 4 == 4 ? 1 : i % 60 + 4;
    for (uint64_t k = 0; k < ranges[i].size; ++k) wrong += out[at++] != static_cast<std::byte>(page + 1);
  }
  CHECK(wrong == 0);
  ranges[2000].start = pages.address(3);
  CHECK_THROWS_AS(memory.read_ranges(ranges, out), SystemError);
}

TEST_CASE("strings end with their zero, or within the limit") {
  Pages pages;
  std::memcpy(pages.page(2) + kPageSize - 6, "hello", 6);
  std::memset(pages.page(5), 'x', kPageSize);
  test::Child child([] { ::pause(); });
  RemoteMemory memory(child.pid());
  // The zero is the last byte before memory that is not there.
  CHECK(memory.read_string(pages.address(3) - 6, 1000) == "hello");
  CHECK_THROWS_AS(memory.read_string(pages.address(5), 500), FormatError);
  CHECK_THROWS_AS(memory.read_string(pages.address(3), 500), SystemError);
}
