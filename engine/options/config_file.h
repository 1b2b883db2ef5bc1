#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/options/option_table.h"

namespace godwit::options {

// The settings of a configuration file's text, in order. One option per line without its dashes; # outside
// quotes starts a comment; the argument follows white space, in double quotes when it contains some (\" is a
// quote in it, every other backslash is itself). `path` is for error messages. Throws UsageError that names
// file and line. Source: criu(8), "Configuration files".
std::vector<Setting> parse_config(std::string_view text, const std::string& path);

}  // namespace godwit::options
