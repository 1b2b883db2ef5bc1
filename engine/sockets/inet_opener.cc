#include "engine/sockets/inet_opener.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <memory>

#include "engine/base/error.h"
#include "engine/files/description_state.h"
#include "engine/sockets/inet_address.h"
#include "engine/sockets/socket_options.h"

namespace godwit::sockets {
namespace {

const char* protocol_name(const pb::inet_sk_entry& entry) {
  return entry.proto() == IPPROTO_TCP ? "TCP" : entry.proto() == IPPROTO_UDP ? "UDP" : "UDP-Lite";
}

void check_entry(const pb::inet_sk_entry& entry) {
  bool is_tcp = entry.type() == SOCK_STREAM && entry.proto() == IPPROTO_TCP;
  bool is_udp =
      entry.type() == SOCK_DGRAM && (entry.proto() == IPPROTO_UDP || entry.proto() == IPPROTO_UDPLITE);
  if (!is_tcp && !is_udp) {
    throw RefusedError("inet socket {}: type {} and protocol {} cannot be restored yet", entry.id(),
                       entry.type(), entry.proto());
  }
  if (entry.state() == TCP_LISTEN && !is_tcp)
    throw FormatError("inet socket {}: UDP that listens", entry.id());
}

// A TCP socket that has or had a peer comes back closed.
bool was_connected(const pb::inet_sk_entry& entry) {
  return entry.proto() == IPPROTO_TCP && entry.dst_port() != 0;
}

bool is_bound(const pb::inet_sk_entry& entry) {
  return entry.src_port() != 0 && !was_connected(entry);
}

Fd make_socket(const pb::inet_sk_entry& entry) {
  Fd fd(check(::socket(static_cast<int>(entry.family()), static_cast<int>(entry.type()) | SOCK_CLOEXEC,
                       static_cast<int>(entry.proto())),
              "socket({}, {}, {})", entry.family(), entry.type(), entry.proto()));
  if (entry.family() == AF_INET6 && entry.has_v6only()) {
    set_option(fd.get(), SOL_IPV6, IPV6_V6ONLY, entry.v6only(), "IPV6_V6ONLY");
  }
  return fd;
}

void set_reuse(int fd, bool address, bool port) {
  set_option(fd, SOL_SOCKET, SO_REUSEADDR, address, "SO_REUSEADDR");
  set_option(fd, SOL_SOCKET, SO_REUSEPORT, port, "SO_REUSEPORT");
}

// A new IPv6 address is tentative for a moment, and nothing can be bound to it; it is there all the same.
bool is_on_this_machine(const InetAddress& address) {
  ifaddrs* first = nullptr;
  check(::getifaddrs(&first), "getifaddrs");
  std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> list(first, ::freeifaddrs);
  for (ifaddrs* item = first; item; item = item->ifa_next) {
    if (!item->ifa_addr || item->ifa_addr->sa_family != AF_INET6 || address.family() != AF_INET6) continue;
    auto& one = reinterpret_cast<const sockaddr_in6&>(*item->ifa_addr);
    auto& other = reinterpret_cast<const sockaddr_in6&>(*address.data());
    if (IN6_ARE_ADDR_EQUAL(&one.sin6_addr, &other.sin6_addr)) return true;
  }
  return false;
}

// Binds a socket for a moment. TCP may bind beside connections that are dying (SO_REUSEADDR), but not beside
// a socket that listens. Shared: other entries have the port too.
void probe_address(const pb::inet_sk_entry& entry, const InetAddress& address, bool shared,
                   kinds::Problems& problems) {
  Fd fd = make_socket(entry);
  bool is_tcp = entry.proto() == IPPROTO_TCP;
  set_reuse(fd.get(), is_tcp || shared || entry.opts().reuseaddr(), entry.opts().so_reuseport());
  set_ip_options(fd.get(), address.family(), entry.ip_opts());
  if (::bind(fd.get(), address.data(), address.size()) == 0) return;
  int code = errno;
  if (code == EADDRNOTAVAIL && is_on_this_machine(address)) return;
  if (code == EADDRINUSE) {
    problems.add("{} {}: port {} is in use on this machine", protocol_name(entry), address.text(),
                 address.port());
  } else if (code == EADDRNOTAVAIL) {
    problems.add("{} {}: address {} is not on this machine", protocol_name(entry), address.text(),
                 address.host());
  } else {
    problems.add("{} {}: bind: {}", protocol_name(entry), address.text(), SystemError::errno_text(code));
  }
}

bool interfaces_exist(const pb::inet_sk_entry& entry, kinds::Problems& problems) {
  bool exist = true;
  for (const std::string* name : {&entry.ifname(), &entry.opts().so_bound_dev()}) {
    if (name->empty() || ::if_nametoindex(name->c_str()) != 0) continue;
    problems.add("{} socket of port {}: there is no network interface {} on this machine",
                 protocol_name(entry), entry.src_port(), *name);
    exist = false;
  }
  return exist;
}

// As CRIU gives it back: a new socket, shut down. Reads find the end, writes give EPIPE, poll a hang-up.
void close_connection(int fd) {
  int result = ::shutdown(fd, SHUT_RDWR);
  if (result < 0 && errno == ENOTCONN) return;  // it is marked all the same
  check(result, "shutdown");
}

void restore_shutdown(int fd, const pb::inet_sk_entry& entry) {
  if (entry.shutdown() == pb::NONE) return;
  int how = static_cast<int>(entry.shutdown()) - 1;  // READ, WRITE, BOTH: SHUT_RD, SHUT_WR, SHUT_RDWR
  int result = ::shutdown(fd, how);
  if (result < 0 && errno == ENOTCONN) return;
  check(result, "shutdown({})", how);
}

}  // namespace

void InetOpener::plan(const pb::inet_sk_entry& entry, const kinds::Policy& policy,
                      kinds::Problems& problems) {
  check_entry(entry);
  if (was_connected(entry)) {
    if (entry.state() == TCP_CLOSE || policy.tcp_close) return;
    problems.add(
        "TCP connection {} - {}: pass --tcp-close to have it back closed (--tcp-established: not "
        "available yet)",
        InetAddress::source(entry).text(), InetAddress::destination(entry).text());
    return;
  }
  if (!interfaces_exist(entry, problems) || !is_bound(entry)) return;
  Port& port = ports_[{entry.proto(), entry.src_port()}];
  probe_address(entry, InetAddress::source(entry), port.planned++ > 0, problems);
}

Fd InetOpener::open(const pb::inet_sk_entry& entry, const kinds::Policy& policy) {
  check_entry(entry);
  Fd fd = make_socket(entry);
  if (was_connected(entry)) {
    if (entry.state() != TCP_CLOSE && !policy.tcp_close)
      throw RefusedError("a TCP connection, without --tcp-close");
    set_socket_options(fd.get(), entry.opts());
    set_tcp_options(fd.get(), entry.tcp_opts());
    set_reuse(fd.get(), entry.opts().reuseaddr(), entry.opts().so_reuseport());
    close_connection(fd.get());
  } else {
    make_ready(fd.get(), entry);
  }
  files::set_status_flags(fd.get(), entry.flags());
  return fd;
}

// Options go first: a filter or device must hold from the first packet, and buffer sizes decide what a
// listening socket offers.
void InetOpener::make_ready(int fd, const pb::inet_sk_entry& entry) {
  set_socket_options(fd, entry.opts());
  set_ip_options(fd, static_cast<int>(entry.family()), entry.ip_opts());
  if (entry.proto() == IPPROTO_TCP) set_tcp_options(fd, entry.tcp_opts());
  if (is_bound(entry)) bind(fd, entry);
  if (entry.state() == TCP_LISTEN) {
    check(::listen(fd, static_cast<int>(entry.backlog())), "listen({})", InetAddress::source(entry).text());
  }
  if (entry.dst_port() != 0) {  // UDP
    InetAddress peer = InetAddress::destination(entry);
    check(::connect(fd, peer.data(), peer.size()), "connect({})", peer.text());
  }
  restore_shutdown(fd, entry);
  if (is_bound(entry)) {
    settle(fd, entry);
  } else {
    set_reuse(fd, entry.opts().reuseaddr(), entry.opts().so_reuseport());
  }
}

void InetOpener::bind(int fd, const pb::inet_sk_entry& entry) {
  InetAddress address = InetAddress::source(entry);
  Port& port = ports_[{entry.proto(), entry.src_port()}];
  bool is_tcp = entry.proto() == IPPROTO_TCP, shared = port.planned > 1;
  set_reuse(fd, is_tcp || shared || entry.opts().reuseaddr(), entry.opts().so_reuseport());
  pb::ip_opts_entry freely;
  freely.set_freebind(true);
  bool borrowed = entry.family() == AF_INET6 && !entry.ip_opts().freebind();
  if (borrowed) set_ip_options(fd, AF_INET6, freely);  // tentative addresses
  int result = ::bind(fd, address.data(), address.size());
  if (result < 0 && errno == EADDRINUSE && !port.bound.empty()) {
    // They came to share the port in an order that we do not know. All of them with SO_REUSEPORT may.
    for (const Bound& other : port.bound)
      set_option(other.fd.get(), SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
    set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
    result = ::bind(fd, address.data(), address.size());
  }
  check(result, "bind({} {})", protocol_name(entry), address.text());
  if (borrowed) set_option(fd, SOL_IP, IP_FREEBIND, 0, "IP_FREEBIND");
}

// Gives the sockets of a port their own options back when all of them are bound.
void InetOpener::settle(int fd, const pb::inet_sk_entry& entry) {
  Port& port = ports_[{entry.proto(), entry.src_port()}];
  Fd copy(check(::fcntl(fd, F_DUPFD_CLOEXEC, 0), "fcntl(F_DUPFD_CLOEXEC)"));
  port.bound.push_back({.fd = std::move(copy),
                        .reuse_address = entry.opts().reuseaddr(),
                        .reuse_port = entry.opts().so_reuseport()});
  if (static_cast<int>(port.bound.size()) < port.planned) return;
  for (const Bound& one : port.bound) set_reuse(one.fd.get(), one.reuse_address, one.reuse_port);
  port.bound.clear();
}

}  // namespace godwit::sockets
