#include "engine/sockets/socket_options.h"

#include <linux/filter.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <optional>
#include <vector>

#include "engine/base/error.h"

namespace godwit::sockets {
namespace {

// Not in glibc 2.36: asm-generic/socket.h (Linux 5.15), linux/in6.h (Linux 4.15).
constexpr int kBufferLock = 72;
constexpr int kIpv6Freebind = 78;

template <class Value>
Value get_value(int fd, int level, int option, const char* name) {
  Value value{};
  socklen_t length = sizeof value;
  check(::getsockopt(fd, level, option, &value, &length), "getsockopt({})", name);
  return value;
}

template <class Value>
void set_value(int fd, int level, int option, const Value& value, const char* name) {
  check(::setsockopt(fd, level, option, &value, sizeof value), "setsockopt({})", name);
}

uint32_t get_word(int fd, int level, int option, const char* name) {
  return get_value<uint32_t>(fd, level, option, name);
}

// Empty when the kernel does not know the option.
std::optional<uint32_t> get_word_if_known(int fd, int level, int option) {
  uint32_t value = 0;
  socklen_t length = sizeof value;
  if (::getsockopt(fd, level, option, &value, &length) < 0) return std::nullopt;
  return value;
}

bool get_bool(int fd, int level, int option, const char* name) {
  return get_option(fd, level, option, name) != 0;
}

// What an image packs a filter instruction into, so that it reads the same on every machine.
uint64_t pack(const sock_filter& instruction) {
  return uint64_t{instruction.code} << 48 | uint64_t{instruction.jt} << 40 | uint64_t{instruction.jf} << 32 |
         instruction.k;
}

sock_filter unpack(uint64_t packed) {
  return {.code = static_cast<uint16_t>(packed >> 48),
          .jt = static_cast<uint8_t>(packed >> 40),
          .jf = static_cast<uint8_t>(packed >> 32),
          .k = static_cast<uint32_t>(packed)};
}

void collect_filter(int fd, pb::sk_opts_entry& options) {
  socklen_t instructions = 0;  // this option counts instructions, not bytes
  int result = ::getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, nullptr, &instructions);
  if (result < 0 && errno == EACCES) throw RefusedError("its eBPF socket filter cannot be read back");
  check(result, "getsockopt(SO_GET_FILTER)");
  std::vector<sock_filter> filter(instructions);
  if (filter.empty()) return;
  check(::getsockopt(fd, SOL_SOCKET, SO_GET_FILTER, filter.data(), &instructions),
        "getsockopt(SO_GET_FILTER)");
  for (const sock_filter& instruction : filter) options.add_so_filter(pack(instruction));
}

void set_filter(int fd, const pb::sk_opts_entry& options) {
  if (options.so_filter().empty()) return;
  if (options.so_filter_size() > BPF_MAXINSNS)
    throw FormatError("a filter of {} instructions", options.so_filter_size());
  std::vector<sock_filter> filter;
  for (uint64_t packed : options.so_filter()) filter.push_back(unpack(packed));
  sock_fprog program{.len = static_cast<unsigned short>(filter.size()), .filter = filter.data()};
  set_value(fd, SOL_SOCKET, SO_ATTACH_FILTER, program, "SO_ATTACH_FILTER");
}

// The kernel doubles what it is told and shows the double. The forced option is not bound by
// net.core.*mem_max, but needs CAP_NET_ADMIN.
void set_buffer(int fd, int forced, int ordinary, uint32_t doubled, const char* name) {
  int size = static_cast<int>(doubled / 2);
  if (::setsockopt(fd, SOL_SOCKET, forced, &size, sizeof size) == 0) return;
  set_value(fd, SOL_SOCKET, ordinary, size, name);
}

void set_buffers(int fd, const pb::sk_opts_entry& options) {
  set_buffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, options.so_sndbuf(), "SO_SNDBUF");
  set_buffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, options.so_rcvbuf(), "SO_RCVBUF");
  // Setting a size turns automatic tuning off; this turns it on again where it was.
  if (options.has_so_buf_lock() && get_word_if_known(fd, SOL_SOCKET, kBufferLock)) {
    set_value(fd, SOL_SOCKET, kBufferLock, options.so_buf_lock(), "SO_BUF_LOCK");
  }
}

void set_timeout(int fd, int option, uint64_t seconds, uint64_t microseconds, const char* name) {
  timeval time{.tv_sec = static_cast<time_t>(seconds), .tv_usec = static_cast<suseconds_t>(microseconds)};
  set_value(fd, SOL_SOCKET, option, time, name);
}

}  // namespace

int get_option(int fd, int level, int option, const char* name) {
  return get_value<int>(fd, level, option, name);
}

void set_option(int fd, int level, int option, int value, const char* name) {
  set_value(fd, level, option, value, name);
}

pb::sk_opts_entry collect_socket_options(int fd) {
  pb::sk_opts_entry options;
  options.set_so_sndbuf(get_word(fd, SOL_SOCKET, SO_SNDBUF, "SO_SNDBUF"));
  options.set_so_rcvbuf(get_word(fd, SOL_SOCKET, SO_RCVBUF, "SO_RCVBUF"));
  if (auto lock = get_word_if_known(fd, SOL_SOCKET, kBufferLock)) options.set_so_buf_lock(*lock);
  options.set_so_priority(get_word(fd, SOL_SOCKET, SO_PRIORITY, "SO_PRIORITY"));
  options.set_so_rcvlowat(get_word(fd, SOL_SOCKET, SO_RCVLOWAT, "SO_RCVLOWAT"));
  if (uint32_t mark = get_word(fd, SOL_SOCKET, SO_MARK, "SO_MARK")) options.set_so_mark(mark);
  auto send_timeout = get_value<timeval>(fd, SOL_SOCKET, SO_SNDTIMEO, "SO_SNDTIMEO");
  options.set_so_snd_tmo_sec(static_cast<uint64_t>(send_timeout.tv_sec));
  options.set_so_snd_tmo_usec(static_cast<uint64_t>(send_timeout.tv_usec));
  auto receive_timeout = get_value<timeval>(fd, SOL_SOCKET, SO_RCVTIMEO, "SO_RCVTIMEO");
  options.set_so_rcv_tmo_sec(static_cast<uint64_t>(receive_timeout.tv_sec));
  options.set_so_rcv_tmo_usec(static_cast<uint64_t>(receive_timeout.tv_usec));
  options.set_reuseaddr(get_bool(fd, SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR"));
  options.set_so_reuseport(get_bool(fd, SOL_SOCKET, SO_REUSEPORT, "SO_REUSEPORT"));
  options.set_so_dontroute(get_bool(fd, SOL_SOCKET, SO_DONTROUTE, "SO_DONTROUTE"));
  options.set_so_no_check(get_bool(fd, SOL_SOCKET, SO_NO_CHECK, "SO_NO_CHECK"));
  options.set_so_broadcast(get_bool(fd, SOL_SOCKET, SO_BROADCAST, "SO_BROADCAST"));
  options.set_so_keepalive(get_bool(fd, SOL_SOCKET, SO_KEEPALIVE, "SO_KEEPALIVE"));
  options.set_so_oobinline(get_bool(fd, SOL_SOCKET, SO_OOBINLINE, "SO_OOBINLINE"));
  auto linger_time = get_value<linger>(fd, SOL_SOCKET, SO_LINGER, "SO_LINGER");
  if (linger_time.l_onoff) options.set_so_linger(static_cast<uint32_t>(linger_time.l_linger));
  char device[IFNAMSIZ] = "";
  socklen_t length = sizeof device;
  check(::getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, &length), "getsockopt(SO_BINDTODEVICE)");
  if (length != 0) options.set_so_bound_dev(device);
  collect_filter(fd, options);
  return options;
}

void set_socket_options(int fd, const pb::sk_opts_entry& options) {
  set_buffers(fd, options);
  auto set_word = [fd](bool there, int option, uint32_t value, const char* name) {
    if (there) set_value(fd, SOL_SOCKET, option, value, name);
  };
  set_word(options.has_so_priority(), SO_PRIORITY, options.so_priority(), "SO_PRIORITY");
  set_word(options.has_so_rcvlowat(), SO_RCVLOWAT, options.so_rcvlowat(), "SO_RCVLOWAT");
  set_word(options.has_so_mark(), SO_MARK, options.so_mark(), "SO_MARK");
  set_word(options.so_passcred(), SO_PASSCRED, 1, "SO_PASSCRED");
  set_word(options.so_passsec(), SO_PASSSEC, 1, "SO_PASSSEC");
  set_word(options.so_dontroute(), SO_DONTROUTE, 1, "SO_DONTROUTE");
  set_word(options.so_no_check(), SO_NO_CHECK, 1, "SO_NO_CHECK");
  set_word(options.so_broadcast(), SO_BROADCAST, 1, "SO_BROADCAST");
  set_word(options.so_keepalive(), SO_KEEPALIVE, 1, "SO_KEEPALIVE");
  set_word(options.so_oobinline() != 0, SO_OOBINLINE, 1, "SO_OOBINLINE");
  if (options.has_so_linger()) {
    linger time{.l_onoff = 1, .l_linger = static_cast<int>(options.so_linger())};
    set_value(fd, SOL_SOCKET, SO_LINGER, time, "SO_LINGER");
  }
  set_timeout(fd, SO_SNDTIMEO, options.so_snd_tmo_sec(), options.so_snd_tmo_usec(), "SO_SNDTIMEO");
  set_timeout(fd, SO_RCVTIMEO, options.so_rcv_tmo_sec(), options.so_rcv_tmo_usec(), "SO_RCVTIMEO");
  if (const std::string& device = options.so_bound_dev(); !device.empty()) {
    check(
        ::setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device.c_str(), static_cast<socklen_t>(device.size())),
        "setsockopt(SO_BINDTODEVICE, {})", device);
  }
  set_filter(fd, options);
  // Where CRIUs before 3.18 wrote these.
  pb::tcp_opts_entry tcp;
  if (options.has_tcp_keepcnt()) tcp.set_keepcnt(options.tcp_keepcnt());
  if (options.has_tcp_keepidle()) tcp.set_keepidle(options.tcp_keepidle());
  if (options.has_tcp_keepintvl()) tcp.set_keepintvl(options.tcp_keepintvl());
  set_tcp_options(fd, tcp);
}

pb::ip_opts_entry collect_ip_options(int fd, int family) {
  pb::ip_opts_entry options;
  bool is_v6 = family == AF_INET6;
  bool freebind = is_v6 ? get_bool(fd, SOL_IPV6, kIpv6Freebind, "IPV6_FREEBIND")
                        : get_bool(fd, SOL_IP, IP_FREEBIND, "IP_FREEBIND");
  if (freebind) options.set_freebind(true);
  bool pktinfo = is_v6 ? get_bool(fd, SOL_IPV6, IPV6_RECVPKTINFO, "IPV6_RECVPKTINFO")
                       : get_bool(fd, SOL_IP, IP_PKTINFO, "IP_PKTINFO");
  if (pktinfo) options.set_pktinfo(true);
  if (is_v6) return options;
  if (uint32_t tos = get_word(fd, SOL_IP, IP_TOS, "IP_TOS")) options.set_tos(tos);
  if (uint32_t ttl = get_word(fd, SOL_IP, IP_TTL, "IP_TTL")) options.set_ttl(ttl);
  return options;
}

void set_ip_options(int fd, int family, const pb::ip_opts_entry& options) {
  if (family == AF_INET6) {
    if (options.freebind()) set_option(fd, SOL_IPV6, kIpv6Freebind, 1, "IPV6_FREEBIND");
    if (options.pktinfo()) set_option(fd, SOL_IPV6, IPV6_RECVPKTINFO, 1, "IPV6_RECVPKTINFO");
    return;
  }
  if (options.freebind()) set_option(fd, SOL_IP, IP_FREEBIND, 1, "IP_FREEBIND");
  if (options.pktinfo()) set_option(fd, SOL_IP, IP_PKTINFO, 1, "IP_PKTINFO");
  if (options.has_tos()) set_option(fd, SOL_IP, IP_TOS, static_cast<int>(options.tos()), "IP_TOS");
  if (options.has_ttl()) set_option(fd, SOL_IP, IP_TTL, static_cast<int>(options.ttl()), "IP_TTL");
}

pb::tcp_opts_entry collect_tcp_options(int fd) {
  pb::tcp_opts_entry options;
  if (get_bool(fd, SOL_TCP, TCP_NODELAY, "TCP_NODELAY")) options.set_nodelay(true);
  if (get_bool(fd, SOL_TCP, TCP_CORK, "TCP_CORK")) options.set_cork(true);
  options.set_keepcnt(get_word(fd, SOL_TCP, TCP_KEEPCNT, "TCP_KEEPCNT"));
  options.set_keepidle(get_word(fd, SOL_TCP, TCP_KEEPIDLE, "TCP_KEEPIDLE"));
  options.set_keepintvl(get_word(fd, SOL_TCP, TCP_KEEPINTVL, "TCP_KEEPINTVL"));
  return options;
}

void set_tcp_options(int fd, const pb::tcp_opts_entry& options) {
  auto set_word = [fd](bool there, int option, uint32_t value, const char* name) {
    if (there) set_value(fd, SOL_TCP, option, value, name);
  };
  set_word(options.nodelay(), TCP_NODELAY, 1, "TCP_NODELAY");
  set_word(options.cork(), TCP_CORK, 1, "TCP_CORK");
  set_word(options.has_keepcnt(), TCP_KEEPCNT, options.keepcnt(), "TCP_KEEPCNT");
  set_word(options.has_keepidle(), TCP_KEEPIDLE, options.keepidle(), "TCP_KEEPIDLE");
  set_word(options.has_keepintvl(), TCP_KEEPINTVL, options.keepintvl(), "TCP_KEEPINTVL");
}

std::string tcp_options_without_place(int fd) {
  struct Option {
    int number;
    const char* name;
  };
  constexpr std::array<Option, 3> kOptions{{{TCP_DEFER_ACCEPT, "TCP_DEFER_ACCEPT"},
                                            {TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT"},
                                            {TCP_FASTOPEN, "TCP_FASTOPEN"}}};
  std::string names;
  for (const Option& option : kOptions) {
    if (get_word_if_known(fd, SOL_TCP, option.number).value_or(0) == 0) continue;
    if (!names.empty()) names += ", ";
    names += option.name;
  }
  return names;
}

}  // namespace godwit::sockets
