#pragma once

#include <cstdint>

#include "engine/base/units.h"

// Bounds on what images may claim. Lengths are also checked against what is left of their file, so these only
// stop files that are themselves absurd.
namespace godwit::images {

// The largest real record is an mm with its VMAs: 65530 of them take 4 MiB, and vm.max_map_count can be
// raised 50-fold.
inline constexpr uint64_t kMaxRecordBytes = 256 * kMiB;
// Payloads that are read into memory: a pipe holds at most 1 MiB unless root raised it, a socket's queues a
// few MiB.
inline constexpr uint64_t kMaxPayloadBytes = kGiB;
// Addresses (and offsets in shared memory) must fit the kernel's signed file offset.
inline constexpr uint64_t kMaxImageAddress = uint64_t{1} << 62;
// Directories that stand behind one another through `parent`. Each pre-dump adds one.
inline constexpr unsigned kMaxParentLinks = 1024;
// Entries of one pagemap that may be held in memory (24 bytes each): every second page of 512 GiB.
inline constexpr uint64_t kMaxPagemapEntries = uint64_t{64} << 20;

}  // namespace godwit::images
