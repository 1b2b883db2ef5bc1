#pragma once

#include <optional>
#include <string>

#include "engine/options/commands_options.h"

namespace godwit::options {

// The help of `criu -h`, or of `criu COMMAND -h` with the command's own options; made from the option table,
// at most 100 columns wide. What is not available yet says so.
std::string help_text(std::optional<Command> command);

}  // namespace godwit::options
