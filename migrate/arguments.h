#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "migrate/agent_options.h"
#include "migrate/run_options.h"

namespace godwit::migrate {

struct HelpText {
  std::string text;
};
using Invocation = std::variant<RunOptions, AgentOptions, HelpText>;

// Reads the command line of `migrate` (with the program's name first). Throws UsageError for what cannot be
// meant, RefusedError for what this version does not do yet.
Invocation parse_arguments(const std::vector<std::string>& arguments);

// "HOST", "HOST:PORT", "[::1]:PORT", ":PORT". Throws UsageError.
struct Endpoint {
  std::string host;
  uint16_t port = kDefaultPort;
};
Endpoint parse_endpoint(const std::string& text);

}  // namespace godwit::migrate
