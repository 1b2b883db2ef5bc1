#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "pageserver/listener.h"
#include "tls/credentials.h"
#include "tls/stream.h"

namespace godwit::pageserver {

// The stream of an accepted connection: TLS in the server's role if there are credentials. Throws as
// tls::Session.
std::unique_ptr<tls::Stream> accept_stream(
    tls::Connection connection, std::shared_ptr<const tls::Credentials> credentials,
    std::chrono::milliseconds handshake_timeout = std::chrono::milliseconds{30'000});

// Takes connections until stop() of the listener and serves each on a thread of its own (migrate's agent).
// What `serve` throws ends its connection and is logged, as is a failed handshake. When the listener stops,
// the connections that are left are broken off, and this returns when all threads have ended.
void serve_connections(Listener& listener, std::shared_ptr<const tls::Credentials> credentials,
                       const std::function<void(tls::Stream&)>& serve);

}  // namespace godwit::pageserver
