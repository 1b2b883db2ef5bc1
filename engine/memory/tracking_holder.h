#pragma once

#include <vector>

#include "engine/base/fd.h"
#include "engine/images/image_directory.h"
#include "engine/memory/process_identity.h"

// The holder keeps write-protection alive between two commands. The protection lasts as long as its
// userfaultfds are open, so a `criu pre-dump` that ends leaves a small process that does nothing but hold
// them
// ("criu: holds write-protection of pid N" in ps) and listens on the socket `godwit-tracking.sock` in the
// image directory of that pre-dump. The next command takes the userfaultfds from there, and the holder ends.
// It also ends when all its targets have ended, after kHolderLifetime, and when a later pre-dump or dump
// begins to track the same process anew. If it is killed, the kernel closes the userfaultfds, the protection
// is gone, and the next command finds every page changed: nothing is lost but the saving.
namespace godwit::memory {

// One process and the userfaultfd that its mappings are registered with.
struct TrackedProcess {
  ProcessIdentity identity;
  Fd userfaults;
};

// A chain of pre-dumps whose next link does not come within a day was given up; its protection would still
// cost the target a fault per first write, and keep newer ones from registering.
inline constexpr int kHolderLifetimeSeconds = 24 * 60 * 60;
inline constexpr const char* kHolderSocketName = "godwit-tracking.sock";

// Forks the holder; its socket is there when this returns. An older holder or socket of this directory is
// ended first. The first process is the root of the tree. Throws Error; the userfaultfds are closed then.
// Call it when no other thread runs.
void leave_with_holder(const images::ImageDirectory& directory, std::vector<TrackedProcess> processes);

// What the holder of this directory held; it has ended then, and its socket is gone. Empty, after a warning,
// when there is none, or it died, or it does not belong to this user.
std::vector<TrackedProcess> take_from_holder(const images::ImageDirectory& directory);

// Ends the holder, of whatever directory, whose tree has this root, because a new chain begins. Nothing
// happens when there is none (in this network namespace, where it is found).
void end_holder_of(const ProcessIdentity& root);

}  // namespace godwit::memory
