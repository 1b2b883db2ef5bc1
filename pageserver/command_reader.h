#pragma once

#include <chrono>
#include <optional>

#include "pageserver/wire.h"
#include "tls/stream.h"

namespace godwit::pageserver {

// How long a client may be silent. Between commands a stock client freezes and collects whole trees, so only
// the first command and the rest of a message that has begun are bounded; keepalive finds dead peers.
struct PatienceLimits {
  std::chrono::milliseconds first_command{300'000};
  std::chrono::milliseconds rest_of_message{120'000};
};

// The commands that one client sends. Finds out its header layout from the first.
class CommandReader {
 public:
  CommandReader(tls::Stream& stream, PatienceLimits limits) : stream_(stream), limits_(limits) {}

  // The next header, or nothing where the client ended the stream between two messages. Throws FormatError,
  // tls::TimeoutError, SystemError.
  std::optional<Header> next();
  // Of the client; only after the first command.
  Layout layout() const { return layout_.value_or(Layout::kShort); }

 private:
  bool read_start(std::span<std::byte> bytes);
  Header read_first(std::span<std::byte> bytes);

  tls::Stream& stream_;
  PatienceLimits limits_;
  std::optional<Layout> layout_;
  bool first_ = true;
};

}  // namespace godwit::pageserver
