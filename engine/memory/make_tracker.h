#pragma once

#include <memory>
#include <optional>

#include "engine/images/image_directory.h"
#include "engine/memory/dirty_tracker.h"

namespace godwit::memory {

// The tracker for --track-mem: soft-dirty bits where the kernel has them, else write-protection. Throws Error
// that says what this kernel lacks when it has neither.

// For a program that keeps the tracker over all rounds.
std::unique_ptr<DirtyTracker> make_tracker();

// For one command among several: goes on where the command that wrote `parent` stopped. Without a parent, or
// when nothing usable is found there (a warning says what), every page counts as changed. The state in
// `parent` is used up: what it says holds for one next round only.
// After a round whose images are complete and that more rounds may follow, call
// DirtyTracker::leave_for_next_command; after the last one just drop the tracker.
std::unique_ptr<DirtyTracker> make_command_tracker(const std::optional<images::ImageDirectory>& parent);

// A dump that ends a chain of pre-dumps without tracking itself: ends what the chain left in `parent`.
void end_tracking(const images::ImageDirectory& parent);

}  // namespace godwit::memory
