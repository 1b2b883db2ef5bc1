#pragma once

#include "migrate/agent_options.h"

namespace godwit::migrate {

// Accepts moves until SIGTERM or SIGINT; returns the exit status. Each connection is served by a process of
// its own; what they restore becomes a child of this one when they end. Moves under way go on without it.
// Throws for what is wrong with the options, the port, the files.
int run_agent(const AgentOptions& options);

// The CN of a certificate's subject in RFC 4514's form ("CN=host-a,O=example"); empty when it has none.
std::string common_name(std::string_view subject);

}  // namespace godwit::migrate
