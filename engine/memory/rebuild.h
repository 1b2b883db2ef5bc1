#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/files/file_opener.h"
#include "engine/images/pagemap.h"
#include "engine/kernel/proc_maps.h"
#include "engine/kinds/problems.h"
#include "engine/tracee/batch.h"
#include "proto/images/mm.pb.h"

// Gives a seed the address space of the images, by batches that it runs itself.
namespace godwit::memory {

// Checks the areas and pages of one task against each other and this machine.
void plan_address_space(pid_t pid, const pb::mm_entry& mm, const images::PagemapChain& pages, bool lazy,
                        kinds::Problems& problems);

// A part of the address space that is free in every layout and in a seed, of at least `size` bytes. Throws
// Error.
uint64_t find_hole(const std::vector<const pb::mm_entry*>& layouts,
                   const std::vector<kernel::MapsEntry>& seed, uint64_t size);
// How much of the hole moving the vdso needs, at its end.
inline constexpr uint64_t kVdsoParkingBytes = 64 * 4096;

// What the seed's own mappings become: everything but the scratch goes, the vdso moves to where the task had
// it. `parking` is kVdsoParkingBytes of free addresses.
std::vector<tracee::Batch> clear_seed(const pb::mm_entry& mm, const std::vector<kernel::MapsEntry>& seed,
                                      uint64_t scratch, uint64_t scratch_size, uint64_t parking);
// The areas, still writable where pages will be filled in, with their advice.
std::vector<tracee::Batch> map_areas(const pb::mm_entry& mm, const images::PagemapChain& pages,
                                     files::FileOpener& files);

// A read of pages into place, and how many bytes it must give.
struct FillBatch {
  tracee::Batch batch;
  std::vector<std::pair<tracee::Batch::Result, uint64_t>> expected;
  // Throws Error when a pages file gave less than that.
  void check(const tracee::BatchResults& results) const;
};
// The pages that the images hold, read by the task itself from this process's descriptors of the pages files.
std::vector<FillBatch> fill_pages(const pb::mm_entry& mm, const images::PagemapChain& pages);

// The final protections and locks, and the fields of the mm (program, arguments, heap).
std::vector<tracee::Batch> finish_address_space(const pb::mm_entry& mm, const images::PagemapChain& pages,
                                                files::FileOpener& files);

}  // namespace godwit::memory
