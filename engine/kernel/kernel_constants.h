#pragma once

// Kernel interfaces that the headers of Debian 12 (Linux 6.1, glibc 2.36) do not have yet, under the kernel's
// own names, each with the place it is documented. Guarded, so that newer headers win when they were included
// before. <linux/fs.h> is left out on purpose: in glibc 2.36 it cannot stand beside <sys/mount.h>.

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include <cstdint>

// PAGEMAP_SCAN on /proc/PID/pagemap, Linux 6.7: include/uapi/linux/fs.h,
// Documentation/admin-guide/mm/pagemap.rst.
#ifndef PAGEMAP_SCAN
struct page_region {
  uint64_t start;  // bytes, as is end; the end is exclusive
  uint64_t end;
  uint64_t categories;  // PAGE_IS_*, only those in return_mask
};
struct pm_scan_arg {
  uint64_t size;   // sizeof(pm_scan_arg)
  uint64_t flags;  // PM_SCAN_*
  uint64_t start;
  uint64_t end;
  uint64_t walk_end;  // out: where the walk stopped
  uint64_t vec;       // page_region[vec_len]
  uint64_t vec_len;
  uint64_t max_pages;
  uint64_t category_inverted;
  uint64_t category_mask;
  uint64_t category_anyof_mask;
  uint64_t return_mask;
};
#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#define PAGE_IS_WPALLOWED (1 << 0)
#define PAGE_IS_WRITTEN (1 << 1)
#define PAGE_IS_FILE (1 << 2)
#define PAGE_IS_PRESENT (1 << 3)
#define PAGE_IS_SWAPPED (1 << 4)
#define PAGE_IS_PFNZERO (1 << 5)
#define PAGE_IS_HUGE (1 << 6)
#define PM_SCAN_WP_MATCHING (1 << 0)
#define PM_SCAN_CHECK_WPASYNC (1 << 1)
#endif
#ifndef PAGE_IS_SOFT_DIRTY  // Linux 6.7, same place
#define PAGE_IS_SOFT_DIRTY (1 << 7)
#endif
#ifndef PAGE_IS_GUARD  // Linux 6.15, same place
#define PAGE_IS_GUARD (1 << 8)
#endif

// userfaultfd(2), include/uapi/linux/userfaultfd.h.
#ifndef UFFD_FEATURE_WP_UNPOPULATED  // Linux 6.4
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_POISON  // Linux 6.6
#define UFFD_FEATURE_POISON (1 << 14)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC  // Linux 6.7
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
#ifndef UFFD_FEATURE_MOVE  // Linux 6.8
#define UFFD_FEATURE_MOVE (1 << 16)
#endif
#ifndef UFFD_USER_MODE_ONLY  // Linux 5.11
#define UFFD_USER_MODE_ONLY 1
#endif

// POSIX timers that are created under a chosen id, Linux 6.15: include/uapi/linux/prctl.h.
#ifndef PR_TIMER_CREATE_RESTORE_IDS
#define PR_TIMER_CREATE_RESTORE_IDS 77
#define PR_TIMER_CREATE_RESTORE_IDS_OFF 0
#define PR_TIMER_CREATE_RESTORE_IDS_ON 1
#define PR_TIMER_CREATE_RESTORE_IDS_GET 2
#endif

// pagemap's per-page entries: Documentation/admin-guide/mm/pagemap.rst. In no header at all.
#ifndef PAGEMAP_ENTRY_SOFT_DIRTY
#define PAGEMAP_ENTRY_SOFT_DIRTY (uint64_t{1} << 55)
#define PAGEMAP_ENTRY_SWAPPED (uint64_t{1} << 62)
#define PAGEMAP_ENTRY_PRESENT (uint64_t{1} << 63)
#endif

// TCP_REPAIR_OFF without a window probe, Linux 4.20: include/uapi/linux/tcp.h; glibc's <netinet/tcp.h> lacks
// it.
#ifndef TCP_REPAIR_OFF_NO_WP
#define TCP_REPAIR_OFF_NO_WP (-1)
#endif

// Expirations of a timerfd that are not read yet, Linux 3.17: timerfd_create(2). glibc lacks it.
#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif
