#pragma once

#include <optional>

#include "engine/base/fd.h"
#include "engine/images/pagemap.h"
#include "engine/tracee/remote_caller.h"
#include "proto/images/mm.pb.h"

namespace godwit::memory {

// Registers the areas of a task that has pages yet to come (PE_LAZY without PE_PRESENT) with a userfaultfd of
// its own, so that touching a missing page waits until somebody provides it. The pages that the images hold
// must be in place. The task keeps no descriptor of it. Empty: the task has no such pages. Throws
// SystemError.
std::optional<Fd> register_lazy_areas(tracee::RemoteCaller& caller, tracee::Tracee& leader,
                                      const pb::mm_entry& mm, const images::PagemapChain& pages);

}  // namespace godwit::memory
