#pragma once

#include <memory>
#include <optional>

#include "engine/memory/arming_registry.h"
#include "engine/memory/dirty_tracker.h"

namespace godwit::memory {

// Tracks by soft-dirty bits (CONFIG_MEM_SOFT_DIRTY; Documentation/admin-guide/mm/soft-dirty.rst): "4" into
// /proc/PID/clear_refs clears the bits of a whole process and takes away its write access; the first write
// sets the bit of a page again. New mappings and pages that mremap(2) moved have it from birth, and pages
// that are pinned for direct I/O keep it, so nothing that changes looks clean.
//
// Pages are believed clean only of a process that this object has armed, or that `earlier` (of the command
// before, see ArmingRegistry) says was armed, with nobody in between; all others are changed.
std::unique_ptr<DirtyTracker> make_soft_dirty_tracker(std::optional<ArmingRecord> earlier,
                                                      ArmingRegistry registry);

}  // namespace godwit::memory
