#include "engine/kernel/page_map.h"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/units.h"
#include "engine/kernel/kernel_constants.h"

namespace godwit::kernel {
namespace {

// The kernel collects regions 512 at a time, and with room for more than that it can report a walk_end that
// lies far before what it has already returned (seen on 6.18): the rest would be scanned twice.
constexpr size_t kRegionsPerCall = 512;
constexpr size_t kEntriesPerRead = 8192;
constexpr uint64_t kNeedsScan = kPageWritten | kPageZero | kPageHuge;

void append(uint64_t start, uint64_t end, uint64_t categories, std::vector<PageRegion>& out) {
  if (!out.empty() && out.back().end == start && out.back().categories == categories) {
    out.back().end = end;
  } else {
    out.push_back({start, end, categories});
  }
}

// One 64-bit entry of the pagemap file: 63 present, 62 swapped, 61 file or shared, 58 guard, 56 mapped here
// only, 55 soft-dirty.
// The kernel's page of zeros is never soft-dirty, also where it has taken the place of a page with contents
// (MADV_DONTNEED, then a read), and cannot be told from others here. It is mapped more than once, so pages
// that are count as soft-dirty.
uint64_t categories_of_entry(uint64_t entry) {
  auto bit = [entry](int number) { return entry >> number & 1; };
  uint64_t may_be_zero_page = bit(63) & ~bit(56) & 1;
  return bit(63) * kPagePresent | bit(62) * kPageSwapped | bit(61) * kPageOfFile | bit(58) * kPageGuard |
         (bit(55) | may_be_zero_page) * kPageSoftDirty;
}

bool matches(uint64_t categories, const PageQuery& query) {
  return (categories & query.all) == query.all && (categories & query.none) == 0 &&
         (query.any == 0 || (categories & query.any) != 0);
}

}  // namespace

PageMap::PageMap(pid_t pid)
    : pid_(pid), file_(open_at(AT_FDCWD, fmt::format("/proc/{}/pagemap", pid), O_RDONLY)) {
  std::vector<PageRegion> none;
  has_scan_ = scan_with_ioctl(0, kPageSize, 0, {}, none) != ENOTTY;
}

void PageMap::scan(uint64_t start, uint64_t end, const PageQuery& query, std::vector<PageRegion>& out) const {
  if (!has_scan_) {
    scan_by_entries(start, end, query, out);
    return;
  }
  if (int code = scan_with_ioctl(start, end, 0, query, out); code != 0) {
    throw SystemError(code, "pid {}: PAGEMAP_SCAN {:x}-{:x}", pid_, start, end);
  }
}

bool PageMap::take_written_if_tracked(uint64_t start, uint64_t end, const PageQuery& query,
                                      std::vector<PageRegion>& out) const {
  if (!has_scan_) return false;
  PageQuery written = query;
  written.returned |= kPageWritten;
  size_t before = out.size();
  int code = scan_with_ioctl(start, end, PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC, written, out);
  if (code == EPERM) {
    out.resize(before);
    return false;
  }
  if (code != 0) throw SystemError(code, "pid {}: PAGEMAP_SCAN {:x}-{:x}", pid_, start, end);
  return true;
}

bool PageMap::is_tracked(uint64_t address) const {
  if (!has_scan_) return false;
  std::vector<PageRegion> ignored;
  // A query that no page matches: only the check is wanted.
  PageQuery nothing{.all = kPagePresent | kPageSwapped, .none = 0, .any = 0, .returned = 0};
  int code = scan_with_ioctl(address, address + kPageSize, PM_SCAN_CHECK_WPASYNC, nothing, ignored);
  if (code != 0 && code != EPERM) throw SystemError(code, "pid {}: PAGEMAP_SCAN {:x}", pid_, address);
  return code == 0;
}

int PageMap::scan_with_ioctl(uint64_t start, uint64_t end, uint64_t flags, const PageQuery& query,
                             std::vector<PageRegion>& out) const {
  std::array<page_region, kRegionsPerCall> regions;
  pm_scan_arg arg{};
  arg.size = sizeof arg;
  arg.flags = flags;
  arg.end = end;
  arg.vec = reinterpret_cast<uint64_t>(regions.data());
  arg.vec_len = regions.size();
  // The kernel flips the inverted categories first and then wants all of the mask: what must be absent is in
  // both.
  arg.category_inverted = query.none;
  arg.category_mask = query.all | query.none;
  arg.category_anyof_mask = query.any;
  arg.return_mask = query.returned;
  for (uint64_t at = start; at < end; at = arg.walk_end) {
    arg.start = at;
    int count = ::ioctl(file_.get(), PAGEMAP_SCAN, &arg);
    if (count < 0) return errno;
    for (int i = 0; i < count; ++i) {
      const page_region& region = regions[static_cast<size_t>(i)];
      append(region.start, region.end, region.categories, out);
    }
    if (arg.walk_end <= at) break;  // nothing left to walk
  }
  return 0;
}

void PageMap::scan_by_entries(uint64_t start, uint64_t end, const PageQuery& query,
                              std::vector<PageRegion>& out) const {
  if (((query.all | query.any) & kNeedsScan) != 0) throw Error("this kernel has no PAGEMAP_SCAN");
  std::vector<uint64_t> entries(kEntriesPerRead);
  for (uint64_t at = start; at < end;) {
    size_t count = std::min<size_t>(kEntriesPerRead, (end - at) / kPageSize);
    pread_exactly(file_.get(), std::as_writable_bytes(std::span(entries).first(count)),
                  static_cast<off_t>(at / kPageSize * sizeof(uint64_t)), "pagemap");
    for (size_t i = 0; i < count; ++i, at += kPageSize) {
      uint64_t categories = categories_of_entry(entries[i]);
      if (matches(categories, query)) append(at, at + kPageSize, categories & query.returned, out);
    }
  }
}

}  // namespace godwit::kernel
