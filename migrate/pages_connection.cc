#include "migrate/pages_connection.h"

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "migrate/control_channel.h"
#include "migrate/lazy_fetch.h"
#include "migrate/move_directory.h"
#include "pageserver/directory_store.h"
#include "pageserver/server.h"

namespace godwit::migrate {
namespace {

constexpr std::chrono::milliseconds kFirstMessage{60'000};
constexpr uint32_t kMaxRounds = 1000;

MoveDirectory open_move(const pb::pages_hello& hello, const tls::PeerCertificate& peer,
                        const AgentOptions& options) {
  if (hello.version() != kControlVersion) {
    throw Error("version {} of the pages greeting, this agent speaks {}", hello.version(), kControlVersion);
  }
  auto move = MoveDirectory::open_if_exists(options.work_dir, hello.id());
  if (!move) throw Error("there is no move {}", hello.id());
  if (move->peer_fingerprint() != peer.sha256) {
    throw Error("move {} was begun with another certificate", hello.id());
  }
  if (move->lock(std::chrono::milliseconds{0})) throw Error("move {} is not in progress", hello.id());
  if (hello.round() > kMaxRounds || hello.parent() > kMaxRounds) throw FormatError("round {}", hello.round());
  return std::move(*move);
}

// Until pages_ready the source still expects control messages, and so a reason.
auto refuse_politely(ControlChannel& channel, auto&& action) {
  try {
    return action();
  } catch (const std::exception& error) {
    pb::control_message failure;
    failure.mutable_failure()->set_reason(error.what());
    try {
      channel.send(failure);
    } catch (const std::exception&) {  // the first error is the one to tell
    }
    throw;
  }
}

void send_ready(ControlChannel& channel) {
  pb::control_message reply;
  reply.mutable_pages_ready();
  channel.send(reply);
}

}  // namespace

void serve_pages(std::unique_ptr<tls::Session> session, const AgentOptions& options) {
  ControlChannel channel(*session);
  auto first = channel.receive(kFirstMessage);
  if (!first.has_pages_hello()) throw FormatError("{} where pages_hello was expected", body_name(first));
  const auto& hello = first.pages_hello();
  log::set_prefix(hello.id() + ": pages: ");
  if (hello.lazy()) {
    auto move =
        refuse_politely(channel, [&] { return open_move(hello, session->peer_certificate(), options); });
    return fetch_lazily(std::move(session), move.path(), [&] { send_ready(channel); });
  }
  std::string path = refuse_politely(channel, [&] {
    return open_move(hello, session->peer_certificate(), options).make_round(hello.round(), hello.parent());
  });
  send_ready(channel);
  auto report = pageserver::receive_pages(*session, pageserver::directory_store(path));
  log::info("round {}: {} pages, {} in the parent", hello.round(), report.pages, report.pages_in_parent);
}

}  // namespace godwit::migrate
