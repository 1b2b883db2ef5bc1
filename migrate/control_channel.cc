#include "migrate/control_channel.h"

#include <vector>

#include "engine/base/bytes.h"
#include "engine/base/error.h"

namespace godwit::migrate {

void ControlChannel::send(const pb::control_message& message) {
  size_t size = message.ByteSizeLong();
  if (size > kMaxControlBytes) {
    throw Error("a control message ({}) has {} bytes, more than {}", body_name(message), size,
                kMaxControlBytes);
  }
  auto length = static_cast<uint32_t>(size);
  std::vector<std::byte> bytes(sizeof length + size);
  std::memcpy(bytes.data(), &length, sizeof length);
  message.SerializeToArray(bytes.data() + sizeof length, static_cast<int>(size));
  stream_.write(tls::Stream::ConstBytes(bytes));
}

std::optional<pb::control_message> ControlChannel::receive_if_open(tls::Stream::Timeout timeout) {
  auto before = stream_.timeout();
  stream_.set_timeout(timeout);
  uint32_t length = 0;
  auto start = writable_bytes_of(length);
  size_t got = stream_.read_some(start);
  if (got == 0) return std::nullopt;
  stream_.read_exactly(start.subspan(got), "control message");
  if (length > kMaxControlBytes) {
    throw FormatError("control message of {} bytes, the limit is {}", length, kMaxControlBytes);
  }
  std::vector<std::byte> bytes(length);
  stream_.read_exactly(bytes, "control message");
  stream_.set_timeout(before);
  pb::control_message message;
  if (!message.ParseFromArray(bytes.data(), static_cast<int>(length)) ||
      message.body_case() == pb::control_message::BODY_NOT_SET) {
    throw FormatError("control message of {} bytes that is not understood", length);
  }
  return message;
}

pb::control_message ControlChannel::receive(tls::Stream::Timeout timeout) {
  auto message = receive_if_open(timeout);
  if (!message) throw Error("the other side ended the connection");
  return *message;
}

std::string_view body_name(const pb::control_message& message) {
  const auto* field = pb::control_message::descriptor()->FindFieldByNumber(message.body_case());
  return field == nullptr ? "nothing" : std::string_view(field->name());
}

}  // namespace godwit::migrate
