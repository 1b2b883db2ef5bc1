#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tls/credentials.h"
#include "tls/stream.h"

namespace godwit::tls {

enum class Role { kClient, kServer };

struct SessionOptions {
  Role role = Role::kClient;
  // Client: the peer's certificate must be made out to this name or IP address; empty for --tls-no-cn-verify.
  std::string server_name{};
  // ALPN protocols, most wanted first; none offers nothing and accepts a peer that offers something.
  std::vector<std::string> protocols{};
  // For the whole handshake.
  Stream::Milliseconds handshake_timeout{30'000};
};

// Who is at the other end, for allow-lists and logs.
struct PeerCertificate {
  std::string subject;  // RFC 4514: "CN=host-a,O=example"
  std::string sha256;   // fingerprint of the DER certificate, 64 hexadecimal digits
};

// TLS 1.2 or 1.3 over a connected socket, both certificates required and verified. Records are collected and
// leave in large pieces; the socket is read ahead. A stream that ends without close_notify throws instead of
// ending.
class Session final : public Stream {
 public:
  using Stream::write;

  // Does the handshake and verifies the peer. Throws Error that names the peer and the reason (gnutls'
  // words), after it told the peer by an alert; TimeoutError.
  Session(Connection connection, std::shared_ptr<const Credentials> credentials,
          const SessionOptions& options);
  ~Session() override;

  std::optional<size_t> try_read(Bytes bytes) override;
  void write(std::span<const ConstBytes> parts) override;
  bool end(Milliseconds timeout) noexcept override;

  // New keys for what we send, and asks the peer for new ones (TLS 1.3; nothing happens in 1.2).
  void update_keys();

  const PeerCertificate& peer_certificate() const;
  // The protocol that both sides agreed on by ALPN, or empty.
  std::string protocol() const;
  // "TLS1.3 AES-128-GCM"
  std::string description() const;

 private:
  class Handle;
  void handshake(const SessionOptions& options);
  void fail_handshake(int code);
  void write_part(ConstBytes part);
  // Sends the collected records.
  void flush();

  std::unique_ptr<Handle> handle_;
};

}  // namespace godwit::tls
