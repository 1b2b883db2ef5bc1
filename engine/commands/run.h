#pragma once

#include <string>
#include <vector>

#include "engine/options/command_line.h"

namespace godwit::commands {

inline constexpr int kFailureStatus = 1;
inline constexpr int kUsageStatus = 2;

// `criu` as a function: reads the command line, sets up, runs the command, and turns whatever is thrown into
// one line ("Error: ...") on standard error and in the log. Returns the exit status.
int run(const std::vector<std::string>& arguments, const options::Environment& environment);

}  // namespace godwit::commands
