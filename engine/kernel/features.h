#pragma once

#include <span>
#include <string>
#include <string_view>

// What the running kernel can do, found by doing it: every probe is a round trip through the interface, never
// a comparison of version numbers, because distributions backport, containers forbid and configurations leave
// out.
namespace godwit::kernel {

struct FeatureResult {
  bool supported = false;
  std::string reason;  // why not, in one line; empty when supported
};

// How much the absence of a feature hurts, as `criu check` counts it.
enum class FeatureCategory {
  kRequired = 1,   // nothing can be dumped or restored without it
  kSometimes = 2,  // needed by some workloads or options
  kExperimental = 3,
};

struct Feature {
  std::string_view name;  // criu's name for --feature where it has one
  FeatureCategory category;
  std::string_view description;  // what is lost without it
  FeatureResult (*probe)();      // may throw; use probe() below, which turns that into a reason
};

// All features, ordered by category.
std::span<const Feature> features();
// nullptr when there is none of that name.
const Feature* find_feature(std::string_view name);

// Tries the feature now. Probes create and end children of their own, touch only memory and descriptors of
// their own, and leave nothing behind. Throws Error for a name that is not in features().
FeatureResult probe(std::string_view name);
FeatureResult probe(const Feature& feature);

// The dirty trackers in the order in which --track-mem takes them.
enum class DirtyTracking { kNone, kSoftDirty, kWriteProtect };
DirtyTracking available_dirty_tracking();
std::string_view dirty_tracking_name(DirtyTracking tracking);

}  // namespace godwit::kernel
