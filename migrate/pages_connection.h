#pragma once

#include <memory>

#include "migrate/agent_options.h"
#include "tls/session.h"

namespace godwit::migrate {

// Serves one pages connection at the agent, in a process of its own: receives one round into its directory,
// or fetches the pages of a post-copy until the tree has all of them. Throws when it breaks off; what was
// received of the round is removed.
void serve_pages(std::unique_ptr<tls::Session> session, const AgentOptions& options);

}  // namespace godwit::migrate
