#pragma once

#include <functional>
#include <string>

#include "engine/kernel/features.h"
#include "engine/options/commands_options.h"

namespace godwit::commands {

// The text that `criu check` prints and its exit status; the words are those that scripts look for, see
// criu(8).
struct CheckReport {
  std::string text;
  int status = 0;
};

// `probe` stands for the kernel, so that tests can play one. Throws UsageError for an unknown --feature.
CheckReport make_check_report(const options::CheckOptions& options,
                              const std::function<kernel::FeatureResult(const kernel::Feature&)>& probe);

}  // namespace godwit::commands
