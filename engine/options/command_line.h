#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/options/commands_options.h"

namespace godwit::options {

// What the configuration files' places depend on.
struct Environment {
  std::string system_config = "/etc/criu/default.conf";
  std::optional<std::string> home;         // HOME: .criu/default.conf in it is read if it exists
  std::optional<std::string> config_file;  // CRIU_CONFIG_FILE, must exist

  static Environment of_process();
};

// Reads a command line (with the program's name first) and the configuration files, in the manual's order;
// later settings win: /etc/criu/default.conf, $HOME/.criu/default.conf, CRIU_CONFIG_FILE, --config FILE, the
// command line. Options may stand before or after the command word. Options that belong to other commands are
// ignored in files, which serve every command, and refused on the command line. Throws UsageError for what
// cannot be meant, RefusedError for what this version does not do yet.
Request parse(const std::vector<std::string>& arguments, const Environment& environment);

}  // namespace godwit::options
