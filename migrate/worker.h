#pragma once

#include "migrate/agent_options.h"
#include "tls/session.h"

namespace godwit::migrate {

// Serves one control connection, in a process of its own: a whole move, from its hello to the verdict, or one
// question for the verdict of a move. What is restored descends from this process. Throws when the connection
// cannot be served; a move that was not committed is gone then.
void serve_control(tls::Session& session, const AgentOptions& options);

}  // namespace godwit::migrate
