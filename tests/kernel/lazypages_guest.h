#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/units.h"
#include "engine/images/image_directory.h"
#include "engine/kernel/userfaultfd.h"
#include "engine/memory/lazy_handover.h"
#include "proto/images/mm.pb.h"
#include "proto/images/pagemap.pb.h"
#include "tests/support/sample_message.h"

// A process with memory that has yet to come, as a restore leaves it.
namespace godwit::lazypages::test {

inline constexpr uint64_t kArena = 0x100000000000;

inline uint64_t page(uint64_t number) {
  return kArena + number * kPageSize;
}

// The words of the page that has this address in the image: no two pages share one.
inline uint64_t word_of(uint64_t image, size_t index) {
  return image * 0x9e3779b97f4a7c15 + index;
}
inline void fill_page(uint64_t image, std::byte* to) {
  auto* words = reinterpret_cast<uint64_t*>(to);
  for (size_t i = 0; i < kPageSize / sizeof(uint64_t); ++i) words[i] = word_of(image, i);
}

// What a guest looks at. Each throws when it is not so.
inline void expect(bool condition, const char* what) {
  if (!condition) throw Error("the guest expected: {}", what);
}
inline void expect_page(uint64_t address, uint64_t image) {
  auto* words = reinterpret_cast<const volatile uint64_t*>(address);
  for (size_t i = 0; i < kPageSize / sizeof(uint64_t); ++i) {
    if (words[i] != word_of(image, i)) throw Error("page {:#x}: word {} is {:#x}", address, i, words[i]);
  }
}
inline void expect_zeros(uint64_t address) {
  auto* words = reinterpret_cast<const volatile uint64_t*>(address);
  for (size_t i = 0; i < kPageSize / sizeof(uint64_t); ++i) {
    if (words[i] != 0) throw Error("page {:#x} is not empty: word {} is {:#x}", address, i, words[i]);
  }
}
// Pages with contents of their own address.
inline void expect_pages(std::vector<uint64_t> numbers) {
  for (uint64_t number : numbers) expect_page(page(number), page(number));
}
inline std::vector<uint64_t> shuffled(uint64_t first, uint64_t count, unsigned seed = 1) {
  std::vector<uint64_t> numbers(count);
  std::iota(numbers.begin(), numbers.end(), first);
  std::shuffle(numbers.begin(), numbers.end(), std::mt19937(seed));
  return numbers;
}

// The first `lazy_pages` of an area at kArena are missing, the `held` behind them stand in the images.
inline void write_images(const std::string& path, pid_t pid, uint64_t lazy_pages, uint64_t area_pages,
                         uint64_t held = 0) {
  auto directory = images::ImageDirectory::open(path);
  auto id = static_cast<uint64_t>(pid);
  Fd pages = directory.create_raw(images::Kind::kPages, 1);
  for (uint64_t i = 0; i < held; ++i) {
    std::array<std::byte, kPageSize> contents;
    fill_page(page(lazy_pages + i), contents.data());
    write_all(pages.get(), contents, "pages");
  }
  auto pagemap = directory.create(images::Kind::kPagemap, id);
  pb::pagemap_head head;
  head.set_pages_id(1);
  pagemap.write(head);
  pb::pagemap_entry entry;
  entry.set_vaddr(kArena);
  entry.set_compat_nr_pages(static_cast<uint32_t>(lazy_pages));
  entry.set_nr_pages(lazy_pages);
  entry.set_flags(2);  // PE_LAZY
  pagemap.write(entry);
  if (held > 0) {
    entry.set_vaddr(page(lazy_pages));
    entry.set_compat_nr_pages(static_cast<uint32_t>(held));
    entry.set_nr_pages(held);
    entry.set_flags(6);  // PE_LAZY | PE_PRESENT
    pagemap.write(entry);
  }
  pagemap.finish();
  pb::mm_entry mm;
  uint32_t next = 0;
  godwit::test::fill_message(mm, next, 0);
  mm.clear_vmas();
  uint32_t unused = 0;
  auto& vma = *mm.add_vmas();
  godwit::test::fill_message(vma, unused);
  vma.set_start(kArena);
  vma.set_end(page(area_pages));
  vma.set_flags(MAP_PRIVATE | MAP_ANONYMOUS);
  vma.set_status(1 | 0x200);  // regular, anonymous private
  directory.write_one(images::Kind::kMm, id, mm);
}

// In the guest: the first `lazy` of `area` pages at kArena have yet to come; the others are in no image.
// `held` pages behind the lazy ones stand in the images; a stock restore would not fill them. Returns when
// the daemon was told.
inline void hand_over(const std::string& directory, uint64_t lazy, uint64_t area, uint64_t held = 0,
                      bool fill_held = true) {
  auto* where = reinterpret_cast<void*>(kArena);
  check(::mmap(where, area * kPageSize, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1, 0) == where
            ? 0
            : -1,
        "mmap of the arena");
  ::madvise(where, area * kPageSize, MADV_NOHUGEPAGE);
  for (uint64_t i = lazy; fill_held && i < lazy + held; ++i) {
    fill_page(page(i), reinterpret_cast<std::byte*>(page(i)));
  }
  auto userfaults = kernel::Userfaultfd::create(UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
                                                UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP);
  userfaults.register_missing(kArena, area * kPageSize);
  write_images(directory, ::getpid(), lazy, area, held);
  auto client = memory::LazyHandoverClient::connect(directory);
  client.send(::getpid(), Fd(check(::fcntl(userfaults.fd(), F_DUPFD_CLOEXEC, 3), "dup")));
  client.finish();
}

}  // namespace godwit::lazypages::test
