#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <string>

#include "proto/images/sockets.pb.h"

namespace godwit::sockets {

// An IPv4 or IPv6 address with a port, as sockets and images have it: in images the address is 1 or 4 words
// in network byte order, the port a number.
class InetAddress {
 public:
  // The any-address of a family, port 0. Throws FormatError for a family that is neither.
  explicit InetAddress(int family);

  // getsockname(2); getpeername(2), empty when the socket is not connected.
  static InetAddress local_of(int fd);
  static std::optional<InetAddress> peer_of(int fd);
  // The peer that a closed TCP socket had once (SO_PEERNAME), empty if it never had one.
  static std::optional<InetAddress> former_peer_of(int fd);

  // Of an image. Throws FormatError for addresses of the wrong length, ports that are none, or an interface
  // (`ifname`) that this machine does not have.
  static InetAddress source(const pb::inet_sk_entry& entry);
  static InetAddress destination(const pb::inet_sk_entry& entry);
  void to_source(pb::inet_sk_entry& entry) const;
  void to_destination(pb::inet_sk_entry& entry) const;

  int family() const { return storage_.ss_family; }
  uint16_t port() const;
  uint32_t scope_id() const;  // interface index, 0 for none
  bool is_any() const;
  std::string host() const;  // "10.0.0.1", "fe80::1"
  std::string text() const;  // "10.0.0.1:80", "[fe80::1]:80"

  const sockaddr* data() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t size() const;

 private:
  InetAddress() = default;
  static InetAddress from_words(const google::protobuf::RepeatedField<uint32_t>& words, int family,
                                uint32_t port);
  void to_words(google::protobuf::RepeatedField<uint32_t>& words) const;

  sockaddr_storage storage_{};
};

}  // namespace godwit::sockets
