#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "pageserver/wire.h"
#include "tls/credentials.h"
#include "tls/stream.h"

namespace godwit::pageserver {

enum class LayoutChoice { kProbe, kShort, kLong };
// "probe", "short", "long" (--ps-layout). Throws UsageError.
LayoutChoice parse_layout_choice(const std::string& word);

// Where a page server is and how to talk to it: the options of dump, pre-dump and lazy-pages.
struct PeerOptions {
  std::string address;  // host name or IP address
  uint16_t port = 0;
  int socket =
      -1;  // --ps-socket: an open connection, borrowed (duplicated); address and port are then unused
  bool tls = false;
  tls::CredentialFiles credentials;
  bool verify_name = true;  // compare the server's certificate with `address`
  LayoutChoice layout = LayoutChoice::kProbe;
  std::chrono::milliseconds connect_timeout{30'000};
  // How long a plain server may take to answer a short header before it is taken for one of the long layout.
  std::chrono::milliseconds probe_timeout{1'000};
};

// A stream to a page server and the header layout that it speaks.
struct Peer {
  std::unique_ptr<tls::Stream> stream;
  Layout layout = Layout::kLong;
};

// Connects and settles the layout. Throws Error ("page server 127.0.0.1:9876: Connection refused").
Peer connect(const PeerOptions& options);

// The layout of a server at the other end of a fresh plain connection: sends the 24 bytes of a short PARENT;
// after `timeout` without an answer the 8 bytes that a server of the long layout still waits for.
Layout probe_layout(tls::Stream& stream, std::chrono::milliseconds timeout);

// Resolves and connects by TCP; tries every address that the name has.
tls::Connection connect_tcp(const std::string& address, uint16_t port, std::chrono::milliseconds timeout);

// "host:port", "[::1]:port"
std::string endpoint_text(const std::string& address, uint16_t port);

}  // namespace godwit::pageserver
