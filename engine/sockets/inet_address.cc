#include "engine/sockets/inet_address.h"

#include <arpa/inet.h>
#include <net/if.h>

#include <cstring>

#include "engine/base/error.h"

namespace godwit::sockets {
namespace {

// glibc has it not: asm-generic/socket.h.
constexpr int kPeerName = 28;

sockaddr_in& v4(sockaddr_storage& storage) {
  return reinterpret_cast<sockaddr_in&>(storage);
}
sockaddr_in6& v6(sockaddr_storage& storage) {
  return reinterpret_cast<sockaddr_in6&>(storage);
}
const sockaddr_in& v4(const sockaddr_storage& storage) {
  return reinterpret_cast<const sockaddr_in&>(storage);
}
const sockaddr_in6& v6(const sockaddr_storage& storage) {
  return reinterpret_cast<const sockaddr_in6&>(storage);
}

}  // namespace

InetAddress::InetAddress(int family) {
  if (family != AF_INET && family != AF_INET6) throw FormatError("address family {} is not IP", family);
  storage_.ss_family = static_cast<sa_family_t>(family);
}

InetAddress InetAddress::local_of(int fd) {
  InetAddress address;
  socklen_t length = sizeof address.storage_;
  check(::getsockname(fd, reinterpret_cast<sockaddr*>(&address.storage_), &length), "getsockname");
  return address;
}

std::optional<InetAddress> InetAddress::peer_of(int fd) {
  InetAddress address;
  socklen_t length = sizeof address.storage_;
  int result = ::getpeername(fd, reinterpret_cast<sockaddr*>(&address.storage_), &length);
  if (result < 0 && errno == ENOTCONN) return std::nullopt;
  check(result, "getpeername");
  return address;
}

std::optional<InetAddress> InetAddress::former_peer_of(int fd) {
  InetAddress address;
  // The kernel refuses a buffer that is larger than its address, so the family must be asked first.
  int family = 0;
  socklen_t length = sizeof family;
  check(::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &length), "getsockopt(SO_DOMAIN)");
  length = InetAddress(family).size();
  int result = ::getsockopt(fd, SOL_SOCKET, kPeerName, &address.storage_, &length);
  if (result < 0 && errno == ENOTCONN) return std::nullopt;
  check(result, "getsockopt(SO_PEERNAME)");
  return address;
}

InetAddress InetAddress::from_words(const google::protobuf::RepeatedField<uint32_t>& words, int family,
                                    uint32_t port) {
  InetAddress address(family);
  if (port > UINT16_MAX) throw FormatError("port {} is none", port);
  // The first images had four words for IPv4 too.
  int needed = family == AF_INET ? 1 : 4;
  if (words.size() != 4 && words.size() != needed) {
    throw FormatError("an address of {} words, family {}", words.size(), family);
  }
  if (family == AF_INET) {
    v4(address.storage_).sin_port = htons(static_cast<uint16_t>(port));
    v4(address.storage_).sin_addr.s_addr = words[0];
  } else {
    v6(address.storage_).sin6_port = htons(static_cast<uint16_t>(port));
    std::memcpy(&v6(address.storage_).sin6_addr, words.data(), sizeof(in6_addr));
  }
  return address;
}

void InetAddress::to_words(google::protobuf::RepeatedField<uint32_t>& words) const {
  uint32_t bytes[4] = {};
  int count = family() == AF_INET ? 1 : 4;
  if (count == 1) {
    bytes[0] = v4(storage_).sin_addr.s_addr;
  } else {
    std::memcpy(bytes, &v6(storage_).sin6_addr, sizeof bytes);
  }
  words.Clear();
  for (int i = 0; i < count; ++i) words.Add(bytes[i]);
}

InetAddress InetAddress::source(const pb::inet_sk_entry& entry) {
  InetAddress address = from_words(entry.src_addr(), static_cast<int>(entry.family()), entry.src_port());
  if (entry.has_ifname() && address.family() == AF_INET6) {
    unsigned index = ::if_nametoindex(entry.ifname().c_str());
    if (index == 0) throw Error("{}: there is no network interface {} here", address.text(), entry.ifname());
    v6(address.storage_).sin6_scope_id = index;
  }
  return address;
}

InetAddress InetAddress::destination(const pb::inet_sk_entry& entry) {
  return from_words(entry.dst_addr(), static_cast<int>(entry.family()), entry.dst_port());
}

void InetAddress::to_source(pb::inet_sk_entry& entry) const {
  to_words(*entry.mutable_src_addr());
  entry.set_src_port(port());
  char name[IF_NAMESIZE];
  if (scope_id() != 0 && ::if_indextoname(scope_id(), name)) entry.set_ifname(name);
}

void InetAddress::to_destination(pb::inet_sk_entry& entry) const {
  to_words(*entry.mutable_dst_addr());
  entry.set_dst_port(port());
}

uint16_t InetAddress::port() const {
  return ntohs(family() == AF_INET ? v4(storage_).sin_port : v6(storage_).sin6_port);
}

uint32_t InetAddress::scope_id() const {
  return family() == AF_INET6 ? v6(storage_).sin6_scope_id : 0;
}

bool InetAddress::is_any() const {
  if (family() == AF_INET) return v4(storage_).sin_addr.s_addr == htonl(INADDR_ANY);
  return IN6_IS_ADDR_UNSPECIFIED(&v6(storage_).sin6_addr);
}

std::string InetAddress::host() const {
  char text[INET6_ADDRSTRLEN] = "";
  const void* bytes = family() == AF_INET ? static_cast<const void*>(&v4(storage_).sin_addr)
                                          : static_cast<const void*>(&v6(storage_).sin6_addr);
  ::inet_ntop(family(), bytes, text, sizeof text);
  return text;
}

std::string InetAddress::text() const {
  return family() == AF_INET ? fmt::format("{}:{}", host(), port()) : fmt::format("[{}]:{}", host(), port());
}

socklen_t InetAddress::size() const {
  return family() == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
}

}  // namespace godwit::sockets
