#pragma once

#include <sys/types.h>

#include <vector>

#include "engine/kernel/page_map.h"
#include "engine/kinds/page_sink.h"
#include "engine/memory/dirty_tracker.h"
#include "engine/tracee/remote_caller.h"
#include "proto/images/mm.pb.h"

namespace godwit::memory {

struct PageCounts {
  uint64_t scanned = 0;    // owned pages that were looked at
  uint64_t in_parent = 0;  // left to the parent image
  uint64_t written = 0;    // shipped
  uint64_t lazy = 0;       // left for post-copy
  uint64_t zero = 0;       // found to hold only zeros, and left out
  PageCounts& operator+=(const PageCounts& other);
};

// Owned pages of one area, as the tracker found them in the freeze.
struct AreaPages {
  pb::vma_entry vma;
  std::vector<kernel::PageRegion> owned;
};

// What a process owns, found while it is frozen.
std::vector<AreaPages> find_owned_pages(pid_t pid, const pb::mm_entry& mm, DirtyTracker& tracker,
                                        tracee::RemoteCaller& caller, tracee::Tracee& leader);

// How the pages found in a freeze are shipped.
struct Shipping {
  // The tree is still frozen, so every page must be readable. Else it runs again, and a page that is gone
  // meanwhile is skipped: it is dirty in the next round.
  bool frozen = true;
  // Pages that post-copy may bring are only announced.
  bool lazy = false;
  // More rounds follow, and may call a page of zeros clean: so it must be in the image.
  bool keep_zero_pages = false;
};

// Ships the pages of one process: changed ones with their contents, clean ones as being in the parent when
// `has_parent` (the sink's answer for this image), else like changed ones. Opens and closes the image in the
// sink.
PageCounts ship_pages(pid_t pid, const std::vector<AreaPages>& areas, Shipping shipping,
                      kinds::PageSink& sink);

}  // namespace godwit::memory
