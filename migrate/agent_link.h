#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "migrate/control_channel.h"
#include "pageserver/connect.h"
#include "tls/session.h"

namespace godwit::migrate {

// Where the agent is and how the source connects to it.
struct AgentAddress {
  std::string host;
  uint16_t port = 0;
  std::shared_ptr<const tls::Credentials> credentials;
  bool verify_name = true;
  std::chrono::milliseconds timeout{30'000};

  std::string text() const { return pageserver::endpoint_text(host, port); }
};

// A session with this ALPN protocol. Throws Error that names the agent.
std::unique_ptr<tls::Session> connect_agent(const AgentAddress& agent, const char* protocol);

// Sends hello on a fresh control connection and takes the welcome. Throws Error with the agent's reason.
pb::welcome greet_agent(ControlChannel& channel, const std::string& move_id, bool verdict_only,
                        tls::Stream::Timeout timeout);

// The next message, which must have this body; a failure is thrown as Error in the agent's words.
pb::control_message expect(ControlChannel& channel, pb::control_message::BodyCase body,
                           tls::Stream::Timeout timeout);

// A connection that carries the pages of one round, 0 for the final dump: the agent has made its directory.
pageserver::Peer open_pages(const AgentAddress& agent, const std::string& move_id, uint32_t round,
                            uint32_t parent, bool lazy);

// What became of the move, over a connection of its own. Throws when the agent cannot be asked.
pb::verdict ask_verdict(const AgentAddress& agent, const std::string& move_id);

}  // namespace godwit::migrate
