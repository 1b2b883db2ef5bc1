#include "migrate/agent_link.h"

#include "engine/base/error.h"

namespace godwit::migrate {

std::unique_ptr<tls::Session> connect_agent(const AgentAddress& agent, const char* protocol) {
  ErrorContext context{"agent {}", agent.text()};
  tls::SessionOptions options;
  options.role = tls::Role::kClient;
  if (agent.verify_name) options.server_name = agent.host;
  options.protocols = {protocol};
  options.handshake_timeout = agent.timeout;
  auto connection = pageserver::connect_tcp(agent.host, agent.port, agent.timeout);
  auto session = std::make_unique<tls::Session>(std::move(connection), agent.credentials, options);
  if (session->protocol() != protocol) throw Error("does not speak {}: is it `migrate agent`?", protocol);
  return session;
}

pb::control_message expect(ControlChannel& channel, pb::control_message::BodyCase body,
                           tls::Stream::Timeout timeout) {
  auto message = channel.receive(timeout);
  if (message.body_case() == pb::control_message::kFailure) throw Error("{}", message.failure().reason());
  if (message.body_case() != body) throw FormatError("answered with {}", body_name(message));
  return message;
}

pb::welcome greet_agent(ControlChannel& channel, const std::string& move_id, bool verdict_only,
                        tls::Stream::Timeout timeout) {
  pb::control_message message;
  auto& hello = *message.mutable_hello();
  hello.set_version(kControlVersion);
  hello.set_id(move_id);
  hello.set_program("godwit " GODWIT_VERSION);
  hello.set_verdict_only(verdict_only);
  channel.send(message);
  return expect(channel, pb::control_message::kWelcome, timeout).welcome();
}

pageserver::Peer open_pages(const AgentAddress& agent, const std::string& move_id, uint32_t round,
                            uint32_t parent, bool lazy) {
  auto session = connect_agent(agent, kPagesProtocol);
  ErrorContext context{"agent {}: pages", agent.text()};
  ControlChannel channel(*session);
  pb::control_message message;
  auto& hello = *message.mutable_pages_hello();
  hello.set_version(kControlVersion);
  hello.set_id(move_id);
  hello.set_round(round);
  hello.set_parent(parent);
  hello.set_lazy(lazy);
  channel.send(message);
  expect(channel, pb::control_message::kPagesReady, agent.timeout);
  return {std::move(session), pageserver::Layout::kLong};
}

pb::verdict ask_verdict(const AgentAddress& agent, const std::string& move_id) {
  auto session = connect_agent(agent, kControlProtocol);
  ErrorContext context{"agent {}", agent.text()};
  ControlChannel channel(*session);
  greet_agent(channel, move_id, true, agent.timeout);
  return expect(channel, pb::control_message::kVerdict, agent.timeout).verdict();
}

}  // namespace godwit::migrate
