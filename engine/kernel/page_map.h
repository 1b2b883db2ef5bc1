#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "engine/base/fd.h"

namespace godwit::kernel {

// What is known of a page, as PAGEMAP_SCAN's categories (Documentation/admin-guide/mm/pagemap.rst).
enum PageCategory : uint64_t {
  kPageWriteProtectAllowed = 1u << 0,
  kPageWritten = 1u << 1,
  kPageOfFile = 1u << 2,  // mapped from a file or shared memory, not the task's own copy
  kPagePresent = 1u << 3,
  kPageSwapped = 1u << 4,
  kPageZero = 1u << 5,  // the kernel's shared page of zeros
  kPageHuge = 1u << 6,
  kPageSoftDirty = 1u << 7,
  kPageGuard = 1u << 8,
};

struct PageRegion {
  uint64_t start = 0, end = 0;  // bytes
  uint64_t categories = 0;
};

// Which pages a scan returns: all of `all`, none of `none`, and one of `any` unless that is 0. Regions carry
// the categories of `returned`, and are split where those change.
struct PageQuery {
  uint64_t all = 0, none = 0, any = 0;
  uint64_t returned = 0;
};

// The pages that a process owns: its anonymous memory and the pages of private file mappings that it has
// changed, in memory or swapped out, without the kernel's page of zeros.
inline constexpr PageQuery kOwnedPages{
    .all = 0, .none = kPageOfFile | kPageZero, .any = kPagePresent | kPageSwapped};

// /proc/PID/pagemap of one process, read with PAGEMAP_SCAN where the kernel has it (Linux 6.7) and entry by
// entry where it has not.
class PageMap {
 public:
  // Throws SystemError when the process is gone or may not be read.
  explicit PageMap(pid_t pid);

  // Appends the runs of [start, end) that match; neighbours with equal categories are joined. Without
  // PAGEMAP_SCAN kPageWritten, kPageZero and kPageHuge are unknown: asking for them in `all` or `any` throws
  // Error, and in `none` they exclude nothing; and pages that several processes share count as soft-dirty.
  void scan(uint64_t start, uint64_t end, const PageQuery& query, std::vector<PageRegion>& out) const;

  // Finds the matching pages, which carry kPageWritten where they were written since the last call, and
  // write-protects all of them again in the same step (PM_SCAN_WP_MATCHING). The range must lie in one
  // mapping. Returns false, and nothing, when it is not registered for asynchronous write-protection (EPERM):
  // every page of it may have been written.
  bool take_written_if_tracked(uint64_t start, uint64_t end, const PageQuery& query,
                               std::vector<PageRegion>& out) const;

  // Whether the mapping at `address` is registered for asynchronous write-protection, with whatever
  // userfaultfd. Changes nothing.
  bool is_tracked(uint64_t address) const;

  // For tests: answer as a kernel without PAGEMAP_SCAN does.
  void pretend_no_scan() { has_scan_ = false; }

 private:
  // 0, or the errno of the failing ioctl.
  int scan_with_ioctl(uint64_t start, uint64_t end, uint64_t flags, const PageQuery& query,
                      std::vector<PageRegion>& out) const;
  void scan_by_entries(uint64_t start, uint64_t end, const PageQuery& query,
                       std::vector<PageRegion>& out) const;

  pid_t pid_;
  Fd file_;
  bool has_scan_;
};

}  // namespace godwit::kernel
