#pragma once

#include <memory>
#include <vector>

#include "engine/memory/dirty_tracker.h"
#include "engine/memory/tracking_holder.h"

namespace godwit::memory {

// Tracks by asynchronous write-protection (Linux 6.7: userfaultfd(2), UFFD_FEATURE_WP_ASYNC;
// Documentation/admin-guide/mm/pagemap.rst, PM_SCAN_WP_MATCHING). Every process gets one userfaultfd, which
// it opens itself in a batch and which we take over; from then on its descriptors are as before. The
// protection lasts as long as this object, or the holder that it is left to.
//
// `held` is what an earlier command left; empty to begin anew.
std::unique_ptr<DirtyTracker> make_write_protect_tracker(std::vector<TrackedProcess> held);

}  // namespace godwit::memory
