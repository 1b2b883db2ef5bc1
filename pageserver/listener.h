#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "engine/base/fd.h"
#include "tls/stream.h"

namespace godwit::pageserver {

// A listening TCP socket.
class Listener {
 public:
  // `address` empty: all addresses, IPv4 and IPv6. Port 0: the kernel picks one. Throws SystemError that
  // names both
  // ("listen on 127.0.0.1:9876: Address already in use").
  Listener(const std::string& address, uint16_t port);
  ~Listener();

  uint16_t port() const;
  // Waits for a connection; nothing after stop(), or when the timeout passed.
  std::optional<tls::Connection> accept(std::optional<std::chrono::milliseconds> timeout = std::nullopt);
  // Makes accept() return nothing, now and later; may be called from any thread.
  void stop();
  int fd() const;

 private:
  struct Acceptor;
  std::unique_ptr<Acceptor> acceptor_;
};

// An open connection that somebody handed us (--ps-socket). Duplicates the descriptor.
tls::Connection adopt_connection(int socket);

}  // namespace godwit::pageserver
