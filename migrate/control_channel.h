#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "proto/control/control.pb.h"
#include "tls/stream.h"

namespace godwit::migrate {

inline constexpr uint32_t kControlVersion = 1;
// ALPN protocols: one port serves both.
inline constexpr const char* kControlProtocol = "godwit-control/1";
inline constexpr const char* kPagesProtocol = "godwit-pages/1";

// The largest message; images travel in pieces far below it, and a preflight of 10 000 files fits.
inline constexpr uint32_t kMaxControlBytes = 8 << 20;

// Messages of proto/control/control.proto over a stream. Reads no byte beyond a message, so that the stream
// can be handed on afterwards.
class ControlChannel {
 public:
  // `stream` is borrowed.
  explicit ControlChannel(tls::Stream& stream) : stream_(stream) {}

  // Throws SystemError, tls::TimeoutError; Error for a message over kMaxControlBytes.
  void send(const pb::control_message& message);
  // The next message; nothing when the peer ended the stream between two messages. Throws FormatError for
  // what is not a message, tls::TimeoutError.
  std::optional<pb::control_message> receive_if_open(tls::Stream::Timeout timeout = std::nullopt);
  // The same where a message must come.
  pb::control_message receive(tls::Stream::Timeout timeout = std::nullopt);

  tls::Stream& stream() { return stream_; }

 private:
  tls::Stream& stream_;
};

// The name of a message's body: "preflight".
std::string_view body_name(const pb::control_message& message);

}  // namespace godwit::migrate
