#include "pageserver/connections.h"

#include <algorithm>
#include <list>
#include <mutex>
#include <thread>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "engine/base/log.h"
#include "tls/plain_stream.h"
#include "tls/session.h"

namespace godwit::pageserver {
namespace {

// The connections that are being served, each with its thread.
class Crowd {
 public:
  Crowd(std::shared_ptr<const tls::Credentials> credentials, const std::function<void(tls::Stream&)>& serve)
      : credentials_(std::move(credentials)), serve_(serve) {}
  Crowd(const Crowd&) = delete;
  Crowd& operator=(const Crowd&) = delete;
  ~Crowd() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      for (Member& member : members_) {
        if (member.stream != nullptr) member.stream->abort();
      }
    }
    for (Member& member : members_) member.thread.join();
  }

  void start(tls::Connection connection) {
    reap();
    std::lock_guard lock(mutex_);
    Member& member = members_.emplace_back();
    member.thread = std::thread([this, &member, accepted = std::move(connection)]() mutable {
      try {
        run(member, std::move(accepted));
      } catch (const std::exception& error) {
        log::error("{}", error.what());
      }
      std::lock_guard end_lock(mutex_);
      member.ended = true;
    });
  }

 private:
  struct Member {
    std::thread thread;
    tls::Stream* stream = nullptr;  // after the handshake, until the end
    bool ended = false;
  };

  void run(Member& member, tls::Connection connection) {
    auto stream = accept_stream(std::move(connection), credentials_);
    Cleanup leave([&] {
      std::lock_guard lock(mutex_);
      member.stream = nullptr;
    });
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
      member.stream = stream.get();
    }
    serve_(*stream);
  }

  void reap() {
    std::lock_guard lock(mutex_);
    std::erase_if(members_, [](Member& member) {
      if (member.ended) member.thread.join();
      return member.ended;
    });
  }

  std::shared_ptr<const tls::Credentials> credentials_;
  const std::function<void(tls::Stream&)>& serve_;
  std::mutex mutex_;
  std::list<Member> members_;
  bool stopping_ = false;
};

}  // namespace

std::unique_ptr<tls::Stream> accept_stream(tls::Connection connection,
                                           std::shared_ptr<const tls::Credentials> credentials,
                                           std::chrono::milliseconds handshake_timeout) {
  if (!credentials) return std::make_unique<tls::PlainStream>(std::move(connection));
  ErrorContext context{"client {}", connection.peer};
  tls::SessionOptions options;
  options.role = tls::Role::kServer;
  options.handshake_timeout = handshake_timeout;
  return std::make_unique<tls::Session>(std::move(connection), std::move(credentials), options);
}

void serve_connections(Listener& listener, std::shared_ptr<const tls::Credentials> credentials,
                       const std::function<void(tls::Stream&)>& serve) {
  Crowd crowd(std::move(credentials), serve);
  while (auto connection = listener.accept()) crowd.start(std::move(*connection));
}

}  // namespace godwit::pageserver
