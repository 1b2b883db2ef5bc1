#include "engine/sockets/inet_collect.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/files/description_state.h"
#include "engine/sockets/inet_address.h"
#include "engine/sockets/socket_options.h"

namespace godwit::sockets {
namespace {

using files::place_of;

// Whether its network namespace is ours: addresses mean nothing in another, and it could not be opened there.
bool in_our_network(int socket) {
  Fd network(check(::ioctl(socket, SIOCGSKNS), "ioctl(SIOCGSKNS)"));
  struct stat theirs {
  }, ours{};
  check(::fstat(network.get(), &theirs), "fstat");
  check(::stat("/proc/self/ns/net", &ours), "stat(/proc/self/ns/net)");
  return theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino;
}

int bytes_waiting(int socket) {
  int bytes = 0;
  check(::ioctl(socket, FIONREAD, &bytes), "ioctl(FIONREAD)");
  return bytes;
}

tcp_info read_tcp_info(int socket) {
  tcp_info info{};
  socklen_t length = sizeof info;
  check(::getsockopt(socket, SOL_TCP, TCP_INFO, &info, &length), "getsockopt(TCP_INFO)");
  return info;
}

// A socket without connection does not tell that it was shut down, but poll shows the reading side.
pb::sk_shutdown shutdown_of_closed(int socket, bool had_peer) {
  if (had_peer) return pb::BOTH;
  pollfd poll{socket, POLLRDHUP, 0};
  check(::poll(&poll, 1, 0), "poll");
  return poll.revents & POLLRDHUP ? pb::READ : pb::NONE;
}

void collect_listening(const kinds::OpenFile& file, const kinds::Policy& policy, const tcp_info& info,
                       pb::inet_sk_entry& entry, kinds::Problems& problems) {
  // Of a listening socket the kernel shows here the length of its queue and the most it may have.
  entry.set_backlog(info.tcpi_sacked);
  if (info.tcpi_unacked != 0 && !policy.tcp_close) {
    problems.add(
        "{}: TCP {}: {} connections wait to be accepted: pass --tcp-close to drop them "
        "(--tcp-established: not available yet)",
        place_of(file), InetAddress::local_of(file.duplicate.get()).text(), info.tcpi_unacked);
  }
}

void collect_closed(const kinds::OpenFile& file, const kinds::Policy& policy, pb::inet_sk_entry& entry,
                    kinds::Problems& problems) {
  int fd = file.duplicate.get();
  auto peer = InetAddress::former_peer_of(fd);
  if (peer) peer->to_destination(entry);
  if (auto shutdown = shutdown_of_closed(fd, peer.has_value()); shutdown != pb::NONE) {
    entry.set_shutdown(shutdown);
  }
  if (int bytes = bytes_waiting(fd); bytes != 0 && !policy.tcp_close) {
    problems.add("{}: closed TCP connection with {} bytes not read yet: pass --tcp-close to drop them",
                 place_of(file), bytes);
  }
}

// With tcp_close the entry keeps the state and both addresses, as CRIU's do; a restore sees from the peer's
// port that this was a connection, and gives a closed socket.
void collect_connection(const kinds::OpenFile& file, const kinds::Policy& policy, pb::inet_sk_entry& entry,
                        kinds::Problems& problems) {
  int fd = file.duplicate.get();
  auto peer = InetAddress::former_peer_of(fd);
  if (!peer) throw Error("a TCP connection without a peer");
  peer->to_destination(entry);
  if (policy.tcp_close) return;
  problems.add(
      "{}: TCP connection {} - {}: pass --tcp-close to have it back closed (--tcp-established: not "
      "available yet)",
      place_of(file), InetAddress::local_of(fd).text(), peer->text());
}

void collect_tcp(const kinds::OpenFile& file, const kinds::Policy& policy, pb::inet_sk_entry& entry,
                 kinds::Problems& problems) {
  int fd = file.duplicate.get();
  tcp_info info = read_tcp_info(fd);
  entry.set_state(info.tcpi_state);
  switch (info.tcpi_state) {
    case TCP_LISTEN:
      collect_listening(file, policy, info, entry, problems);
      break;
    case TCP_CLOSE:
      collect_closed(file, policy, entry, problems);
      break;
    default:
      collect_connection(file, policy, entry, problems);
      break;
  }
  *entry.mutable_tcp_opts() = collect_tcp_options(fd);
  if (auto names = tcp_options_without_place(fd); !names.empty()) {
    log::warning("{}: {}: images have no place for it, the restored socket will not have it", place_of(file),
                 names);
  }
}

void collect_udp(const kinds::OpenFile& file, SocketDiag& diag, pb::inet_sk_entry& entry,
                 kinds::Problems& problems) {
  int fd = file.duplicate.get();
  auto peer = InetAddress::peer_of(fd);
  if (peer) peer->to_destination(entry);
  entry.set_state(peer ? TCP_ESTABLISHED : TCP_CLOSE);
  auto known =
      diag.find(static_cast<int>(entry.family()), static_cast<int>(entry.proto()), file.status.st_ino);
  entry.set_shutdown(known ? static_cast<pb::sk_shutdown>(known->shutdown & pb::BOTH) : pb::NONE);
  if (known && known->receive_queue != 0) {
    log::warning("{}: UDP datagrams that were not read yet are dropped", place_of(file));
  }
  if (get_option(fd, SOL_UDP, UDP_CORK, "UDP_CORK") != 0) {
    problems.add("{}: UDP socket with UDP_CORK cannot be dumped", place_of(file));
  }
}

}  // namespace

bool is_inet_socket(const kinds::OpenFile& file) {
  if (!S_ISSOCK(file.status.st_mode)) return false;
  int fd = file.duplicate.get();
  int family = get_option(fd, SOL_SOCKET, SO_DOMAIN, "SO_DOMAIN");
  if (family != AF_INET && family != AF_INET6) return false;
  int type = get_option(fd, SOL_SOCKET, SO_TYPE, "SO_TYPE");
  int protocol = get_option(fd, SOL_SOCKET, SO_PROTOCOL, "SO_PROTOCOL");
  return (type == SOCK_STREAM && protocol == IPPROTO_TCP) ||
         (type == SOCK_DGRAM && (protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE));
}

void collect_inet_socket(const kinds::OpenFile& file, const kinds::Policy& policy, SocketDiag& diag,
                         pb::inet_sk_entry& entry, kinds::Problems& problems) {
  int fd = file.duplicate.get();
  if (!in_our_network(fd)) {
    problems.add(
        "{}: belongs to another network namespace than criu's: network namespaces are not available yet",
        place_of(file));
    return;
  }
  int family = get_option(fd, SOL_SOCKET, SO_DOMAIN, "SO_DOMAIN");
  entry.set_ino(static_cast<uint32_t>(file.status.st_ino));
  entry.set_family(static_cast<uint32_t>(family));
  entry.set_type(static_cast<uint32_t>(get_option(fd, SOL_SOCKET, SO_TYPE, "SO_TYPE")));
  entry.set_proto(static_cast<uint32_t>(get_option(fd, SOL_SOCKET, SO_PROTOCOL, "SO_PROTOCOL")));
  entry.set_flags(file.flags);
  entry.set_backlog(0);
  *entry.mutable_fown() = files::collect_owner(file);
  InetAddress::local_of(fd).to_source(entry);
  InetAddress(family).to_destination(entry);
  if (family == AF_INET6) entry.set_v6only(get_option(fd, SOL_IPV6, IPV6_V6ONLY, "IPV6_V6ONLY") != 0);
  *entry.mutable_opts() = collect_socket_options(fd);
  *entry.mutable_ip_opts() = collect_ip_options(fd, family);
  if (entry.proto() == IPPROTO_TCP) {
    collect_tcp(file, policy, entry, problems);
  } else {
    collect_udp(file, diag, entry, problems);
  }
}

}  // namespace godwit::sockets
