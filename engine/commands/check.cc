#include "engine/commands/check.h"

#include <cstdio>
#include <vector>

#include "engine/base/error.h"
#include "engine/commands/commands.h"
#include "engine/options/option_table.h"

namespace godwit::commands {
namespace {

using kernel::Feature;
using kernel::FeatureCategory;
using Probe = std::function<kernel::FeatureResult(const Feature&)>;

constexpr int kMissing = 1;
constexpr int kInformation = 3;  // verbosity from which reasons and trackers are told without being needed

std::string feature_list() {
  std::string text;
  for (const Feature& feature : kernel::features()) text += fmt::format("{}\n", feature.name);
  return text;
}

const Feature& named_feature(const std::string& name) {
  if (const Feature* feature = kernel::find_feature(name)) return *feature;
  std::vector<std::string_view> names;
  for (const Feature& feature : kernel::features()) names.push_back(feature.name);
  auto near = options::nearest_name(name, names);
  throw UsageError("--feature: unknown feature {}{}; --feature list prints them", name,
                   near ? "; did you mean " + *near + "?" : "");
}

CheckReport check_one(const Feature& feature, const options::CheckOptions& options, const Probe& probe) {
  kernel::FeatureResult result = probe(feature);
  if (!result.supported)
    return {fmt::format("{} is not supported: {}\n", feature.name, result.reason), kMissing};
  std::string text = fmt::format("{} is supported\n", feature.name);
  if (options.common.verbosity >= kInformation) text += fmt::format("  {}\n", feature.description);
  return {text, 0};
}

bool is_wanted(FeatureCategory category, const options::CheckOptions& options) {
  switch (category) {
    case FeatureCategory::kRequired:
      return true;
    case FeatureCategory::kSometimes:
      return options.extra;
    case FeatureCategory::kExperimental:
      return options.experimental;
  }
  return false;
}

CheckReport check_categories(const options::CheckOptions& options, const Probe& probe) {
  std::string text;
  bool required_missing = false, other_missing = false;
  for (const Feature& feature : kernel::features()) {
    if (!is_wanted(feature.category, options)) continue;
    kernel::FeatureResult result = probe(feature);
    if (result.supported) continue;
    (feature.category == FeatureCategory::kRequired ? required_missing : other_missing) = true;
    text += fmt::format("{} is missing (category {}, {}): {}\n", feature.name,
                        static_cast<int>(feature.category), feature.description, result.reason);
  }
  if (required_missing) return {text + "Does not look good.\n", kMissing};
  if (!other_missing) return {text + "Looks good.\n", 0};
  text +=
      "Looks good but some kernel features are missing which, depending on your process tree, may cause dump "
      "or "
      "restore failure.\n";
  return {text, kMissing};
}

}  // namespace

CheckReport make_check_report(const options::CheckOptions& options, const Probe& probe) {
  if (options.feature == "list") return {feature_list(), 0};
  if (options.feature) return check_one(named_feature(*options.feature), options, probe);
  return check_categories(options, probe);
}

int check(const options::CheckOptions& options) {
  CheckReport report =
      make_check_report(options, [](const Feature& feature) { return kernel::probe(feature); });
  if (!options.feature) {
    std::printf("Memory changes are tracked by: %s\n",
                std::string(kernel::dirty_tracking_name(kernel::available_dirty_tracking())).c_str());
  }
  std::fputs(report.text.c_str(), stdout);
  return report.status;
}

}  // namespace godwit::commands
