#pragma once

#include <cstdint>
#include <string>

#include "engine/kernel/proc_maps.h"
#include "engine/kinds/problems.h"
#include "proto/images/mm.pb.h"

// A virtual memory area in images: what /proc/PID/smaps says of it, as a vma_entry.
namespace godwit::memory {

// vma_entry.status (format-facts of CRIU's images).
enum VmaStatus : uint32_t {
  kVmaRegular = 1u << 0,
  kVmaStack = 1u << 1,
  kVmaVsyscall = 1u << 2,
  kVmaVdso = 1u << 3,
  kVmaHeap = 1u << 5,
  kVmaFilePrivate = 1u << 6,
  kVmaFileShared = 1u << 7,
  kVmaAnonShared = 1u << 8,
  kVmaAnonPrivate = 1u << 9,
  kVmaSysvIpc = 1u << 10,
  kVmaSocket = 1u << 11,
  kVmaVvar = 1u << 12,
  kVmaAioRing = 1u << 13,
  kVmaMemfd = 1u << 14,
  kVmaShadowStack = 1u << 15,
  kVmaGuard = 1u << 16,
  kVmaUprobes = 1u << 17,
};

inline bool has_status(const pb::vma_entry& vma, uint32_t status) {
  return (vma.status() & status) != 0;
}

// Whether the area's own pages (anonymous ones, and changed ones of a private file mapping) are in the page
// images.
bool has_private_pages(const pb::vma_entry& vma);
// Whether post-copy may bring the area's pages: private anonymous memory that is not locked.
bool may_be_lazy(const pb::vma_entry& vma);

// Turns a mapping into an entry without its file (shmid, fdflags). `vm_flags` must be filled: smaps, not
// maps. What cannot come back goes to `problems`.
pb::vma_entry classify(const kernel::MapsEntry& map, kinds::Problems& problems);

// Whether a mapping is one of a file in the file system, whose file goes into the images.
bool maps_file(const kernel::MapsEntry& map);

}  // namespace godwit::memory
