#include "engine/memory/make_tracker.h"

#include <fcntl.h>
#include <unistd.h>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/kernel/features.h"
#include "engine/memory/arming_registry.h"
#include "engine/memory/soft_dirty_tracker.h"
#include "engine/memory/tracking_holder.h"
#include "engine/memory/write_protect_tracker.h"

namespace godwit::memory {
namespace {

[[noreturn]] void throw_unavailable() {
  throw Error("memory changes cannot be tracked: soft-dirty bits: {}; write protection: {}",
              kernel::probe("mem_dirty_track").reason, kernel::probe("uffd-wp-async").reason);
}

}  // namespace

std::unique_ptr<DirtyTracker> make_tracker() {
  return make_command_tracker(std::nullopt);
}

std::unique_ptr<DirtyTracker> make_command_tracker(const std::optional<images::ImageDirectory>& parent) {
  kernel::DirtyTracking tracking = kernel::available_dirty_tracking();
  log::info("memory changes are tracked by {}", kernel::dirty_tracking_name(tracking));
  switch (tracking) {
    case kernel::DirtyTracking::kSoftDirty:
      return make_soft_dirty_tracker(parent ? read_record(*parent) : std::nullopt, ArmingRegistry::open());
    case kernel::DirtyTracking::kWriteProtect:
      return make_write_protect_tracker(parent ? take_from_holder(*parent) : std::vector<TrackedProcess>{});
    case kernel::DirtyTracking::kNone:
      break;
  }
  throw_unavailable();
}

void end_tracking(const images::ImageDirectory& parent) {
  // Taking it over and dropping it is all there is to do; where nothing was left, nothing is said.
  bool has_holder = ::faccessat(parent.fd(), kHolderSocketName, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
  if (has_holder) take_from_holder(parent);
}

}  // namespace godwit::memory
