#pragma once

#include <sys/types.h>

#include <memory>
#include <vector>

#include "engine/images/image_directory.h"
#include "engine/kernel/page_map.h"
#include "engine/tracee/remote_caller.h"
#include "proto/images/mm.pb.h"

namespace godwit::memory {

// Tells which pages a process owns, and which of them may have changed since it was asked last. One object
// serves a whole tree over all rounds of one migration. Every call needs the tree frozen, by the calling
// thread, and no direct I/O in flight: a page pinned by O_DIRECT before it was armed changes unseen.
//
// A page is never called clean that may have been written. Clean pages are in the images of the round before,
// or were found zero there.
class DirtyTracker {
 public:
  DirtyTracker() = default;
  DirtyTracker(const DirtyTracker&) = delete;
  DirtyTracker& operator=(const DirtyTracker&) = delete;
  virtual ~DirtyTracker() = default;

  // Whether owned_pages() tells clean from changed, and so a parent image is of use.
  virtual bool tracks() const = 0;
  // Turns to a process. `caller` and `leader` run batches in it; the caller must not be cured yet.
  virtual void begin_process(pid_t pid, tracee::RemoteCaller& caller, tracee::Tracee& leader) = 0;
  // Appends the pages of `vma` that the process owns (kernel::kOwnedPages); kernel::kPageWritten marks those
  // that may have changed since the last round. Arms the area for the next round.
  virtual void owned_pages(const pb::vma_entry& vma, std::vector<kernel::PageRegion>& out) = 0;
  // After the last area of the process.
  virtual void end_process() = 0;

  // The images of the round that was just scanned did not come to be: every page counts as changed in the
  // next round. Also a destroyed tracker that was not left for the next command means that.
  virtual void forget_all() {}
  // The command ends after a round whose images, in `directory`, are complete: leaves there what the next
  // command with it as its parent needs to go on (make_command_tracker). The tracker is empty afterwards.
  // What cannot be left is a warning, and the next command finds everything changed.
  virtual void leave_for_next_command(const images::ImageDirectory& /*directory*/) {}
};

// No tracking: every page may have changed.
std::unique_ptr<DirtyTracker> make_untracked();

}  // namespace godwit::memory
