#include <fcntl.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/sockios.h>
#include <linux/unix_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <functional>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/kernel/feature_probes.h"

namespace godwit::kernel::probes {
namespace {

// From newer headers than Debian 12's userland ones: include/uapi/asm-generic/socket.h (5.14) and linux/in6.h
// (4.15).
constexpr int kSocketBufferLock = 72;  // SO_BUF_LOCK
constexpr int kIpv6Freebind = 78;      // IPV6_FREEBIND

Fd make_socket(int domain, int type, int protocol = 0) {
  return Fd(check(::socket(domain, type | SOCK_CLOEXEC, protocol), "socket({}, {})", domain, type));
}

uint32_t inode_of(const Fd& fd) {
  struct stat status {};
  check(::fstat(fd.get(), &status), "fstat");
  return static_cast<uint32_t>(status.st_ino);
}

// Sends one sock_diag request and looks through the answers for `wanted`, an inode that `inode_in` finds in
// them.
template <class Request>
FeatureResult find_by_diagnosis(Request request, uint32_t wanted, uint32_t (*inode_in)(const nlmsghdr*),
                                const char* what) {
  struct Message {
    nlmsghdr header;
    Request request;
  } message{};
  message.header.nlmsg_len = sizeof message;
  message.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  message.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  message.request = request;
  Fd netlink = make_socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG);
  check(::send(netlink.get(), &message, sizeof message, 0), "sock_diag");
  alignas(nlmsghdr) std::array<std::byte, 32768> buffer;
  for (;;) {
    auto left =
        static_cast<uint32_t>(check(::recv(netlink.get(), buffer.data(), buffer.size(), 0), "sock_diag"));
    auto* header = reinterpret_cast<const nlmsghdr*>(buffer.data());
    for (; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
      if (header->nlmsg_type == NLMSG_DONE) return missing(fmt::format("sock_diag does not show {}", what));
      if (header->nlmsg_type == NLMSG_ERROR) {
        int error = -static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
        return missing(fmt::format("sock_diag for {}: {}", what, SystemError::errno_text(error)));
      }
      if (inode_in(header) == wanted) return supported();
    }
  }
}

FeatureResult find_inet(const Fd& socket, uint8_t protocol, const char* what) {
  inet_diag_req_v2 request{};
  request.sdiag_family = AF_INET;
  request.sdiag_protocol = protocol;
  request.idiag_states = ~0u;
  auto inode_in = [](const nlmsghdr* header) {
    return static_cast<const inet_diag_msg*>(NLMSG_DATA(header))->idiag_inode;
  };
  return find_by_diagnosis(request, inode_of(socket), inode_in, what);
}

FeatureResult find_unix(const Fd& socket) {
  unix_diag_req request{};
  request.sdiag_family = AF_UNIX;
  request.udiag_states = ~0u;
  auto inode_in = [](const nlmsghdr* header) {
    return static_cast<const unix_diag_msg*>(NLMSG_DATA(header))->udiag_ino;
  };
  return find_by_diagnosis(request, inode_of(socket), inode_in, "a unix socket");
}

// Sets a socket option and reads it back.
FeatureResult option_round_trip(const Fd& socket, int level, int option, int value, const char* name) {
  if (::setsockopt(socket.get(), level, option, &value, sizeof value) != 0) return missing_call(name);
  int read_back = -1;
  socklen_t length = sizeof read_back;
  if (::getsockopt(socket.get(), level, option, &read_back, &length) != 0) return missing_call(name);
  return read_back == value ? supported() : missing(fmt::format("{} does not keep its value", name));
}

}  // namespace

FeatureResult socket_diagnosis() {
  Fd local = make_socket(AF_UNIX, SOCK_STREAM);
  if (auto result = find_unix(local); !result.supported) return result;
  Fd listener = make_socket(AF_INET, SOCK_STREAM);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  check(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), "bind");
  check(::listen(listener.get(), 1), "listen");
  return find_inet(listener, IPPROTO_TCP, "a listening TCP socket");
}

FeatureResult raw_socket_diagnosis() {
  Fd raw(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP));
  if (!raw) return missing_call("socket(SOCK_RAW)");
  return find_inet(raw, IPPROTO_RAW, "a raw socket");
}

FeatureResult peek_offset() {
  return option_round_trip(make_socket(AF_UNIX, SOCK_STREAM), SOL_SOCKET, SO_PEEK_OFF, 3, "SO_PEEK_OFF");
}

FeatureResult tcp_repair() {
  Fd socket = make_socket(AF_INET, SOCK_STREAM);
  int on = TCP_REPAIR_ON;
  if (::setsockopt(socket.get(), IPPROTO_TCP, TCP_REPAIR, &on, sizeof on) != 0)
    return missing_call("TCP_REPAIR");
  int queue = TCP_SEND_QUEUE;
  if (::setsockopt(socket.get(), IPPROTO_TCP, TCP_REPAIR_QUEUE, &queue, sizeof queue) != 0) {
    return missing_call("TCP_REPAIR_QUEUE");
  }
  return option_round_trip(socket, IPPROTO_TCP, TCP_QUEUE_SEQ, 123456, "TCP_QUEUE_SEQ");
}

FeatureResult socket_namespace() {
  Fd socket = make_socket(AF_INET, SOCK_DGRAM);
  Fd space(::ioctl(socket.get(), SIOCGSKNS));
  if (!space) return missing_call("SIOCGSKNS");
  Fd own = open_at(AT_FDCWD, "/proc/thread-self/ns/net", O_RDONLY);
  return inode_of(space) == inode_of(own) ? supported()
                                          : missing("SIOCGSKNS gives another network namespace");
}

FeatureResult buffer_lock() {
  return option_round_trip(make_socket(AF_INET, SOCK_DGRAM), SOL_SOCKET, kSocketBufferLock, 3, "SO_BUF_LOCK");
}

FeatureResult ipv6_freebind() {
  Fd socket(::socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return missing_call("socket(AF_INET6)");
  return option_round_trip(socket, IPPROTO_IPV6, kIpv6Freebind, 1, "IPV6_FREEBIND");
}

}  // namespace godwit::kernel::probes
