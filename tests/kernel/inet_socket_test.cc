// TCP and UDP sockets, collected from a process that holds them and made again.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>

#include "engine/base/error.h"
#include "engine/sockets/inet_address.h"
#include "engine/sockets/socket_options.h"
#include "tests/support/file_holder.h"

using namespace godwit;
using sockets::get_option;
using sockets::InetAddress;
using sockets::set_option;
using test::FileDump;
using test::FileHolder;

namespace {

// 127.0.0.x or ::1; port 0 lets the kernel choose.
struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

Address loopback(int family, uint16_t port, const char* host = nullptr) {
  Address address;
  if (family == AF_INET) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    ::inet_pton(AF_INET, host ? host : "127.0.0.1", &in.sin_addr);
    std::memcpy(&address.storage, &in, address.size = sizeof in);
  } else {
    sockaddr_in6 in{};
    in.sin6_family = AF_INET6;
    in.sin6_port = htons(port);
    ::inet_pton(AF_INET6, host ? host : "::1", &in.sin6_addr);
    std::memcpy(&address.storage, &in, address.size = sizeof in);
  }
  return address;
}

void place(int fd, int number) {
  check(::dup2(fd, number), "dup2");
  ::close(fd);
}

int bound(int family, int type, const Address& address) {
  int fd = check(::socket(family, type, 0), "socket");
  set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR");
  check(::bind(fd, address.get(), address.size), "bind");
  return fd;
}

// A port that nobody has at the moment.
uint16_t free_port(int type = SOCK_STREAM) {
  Fd fd(bound(AF_INET, type, loopback(AF_INET, 0)));
  return InetAddress::local_of(fd.get()).port();
}

int state_of(int fd) {
  tcp_info info{};
  socklen_t size = sizeof info;
  check(::getsockopt(fd, SOL_TCP, TCP_INFO, &info, &size), "TCP_INFO");
  return info.tcpi_state;
}

std::string plan_of(files::FileOpener& opener) {
  kinds::Problems problems;
  opener.plan(problems);
  return FileDump::joined(problems);
}

// A dump of one process, which is ended after it, and what a restore makes of it.
struct RoundTrip {
  explicit RoundTrip(const std::function<void()>& open_files, kinds::Policy policy = {}) : dump(policy) {
    {
      FileHolder holder(open_files);
      dump.add(holder);
      dump_problems = dump.problems();
    }
    files = dump.opener(policy);
    plan_problems = plan_of(*files);
  }
  int open(int number) { return files->open(dump.row(1, number).id()); }
  const pb::inet_sk_entry& entry(int number) { return files->entry(dump.row(1, number).id()).isk(); }

  FileDump dump;
  std::string dump_problems, plan_problems;
  std::unique_ptr<files::FileOpener> files;
};

}  // namespace

TEST_CASE("listening sockets of both families answer again") {
  uint16_t port = free_port(), port6 = free_port();
  RoundTrip trip([&] {
    place(bound(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, loopback(AF_INET, port)), 5);
    ::listen(5, 77);
    place(::socket(AF_INET6, SOCK_STREAM, 0), 6);
    set_option(6, SOL_IPV6, IPV6_V6ONLY, 1, "IPV6_V6ONLY");
    auto address = loopback(AF_INET6, port6, "::");
    check(::bind(6, address.get(), address.size), "bind");
    ::listen(6, 5);
  });
  REQUIRE(trip.dump_problems == "");
  REQUIRE(trip.plan_problems == "");
  CHECK(trip.entry(5).backlog() == 77);
  CHECK(trip.entry(5).state() == TCP_LISTEN);
  CHECK(trip.entry(5).src_addr(0) == htonl(INADDR_LOOPBACK));  // network byte order
  CHECK(trip.entry(5).src_port() == port);                     // and not

  int fd = trip.open(5), fd6 = trip.open(6);
  CHECK(state_of(fd) == TCP_LISTEN);
  CHECK((::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
  CHECK(get_option(fd, SOL_SOCKET, SO_REUSEADDR, "") == 1);
  CHECK(get_option(fd, SOL_SOCKET, SO_REUSEPORT, "") == 0);
  CHECK(get_option(fd6, SOL_IPV6, IPV6_V6ONLY, "") == 1);
  CHECK(get_option(fd6, SOL_SOCKET, SO_REUSEADDR, "") == 0);
  CHECK(get_option(fd6, SOL_IPV6, 78 /* IPV6_FREEBIND */, "") == 0);
  for (auto [family, where] : {std::pair(AF_INET, port), std::pair(AF_INET6, port6)}) {
    Fd client(::socket(family, SOCK_STREAM, 0));
    auto address = loopback(family, where);
    CHECK(::connect(client.get(), address.get(), address.size) == 0);
    Fd accepted(::accept(family == AF_INET ? fd : fd6, nullptr, nullptr));
    CHECK(accepted);
  }
}

TEST_CASE("socket options") {
  sock_filter instructions[] = {{BPF_RET | BPF_K, 0, 0, 0xffff}, {BPF_RET | BPF_K, 1, 2, 0}};
  RoundTrip trip([&] {
    place(::socket(AF_INET, SOCK_STREAM, 0), 5);
    set_option(5, SOL_SOCKET, SO_SNDBUF, 50'000, "SO_SNDBUF");
    set_option(5, SOL_SOCKET, SO_PRIORITY, 3, "SO_PRIORITY");
    set_option(5, SOL_SOCKET, SO_MARK, 42, "SO_MARK");
    set_option(5, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE");
    set_option(5, SOL_SOCKET, SO_OOBINLINE, 1, "SO_OOBINLINE");
    linger time{1, 9};
    ::setsockopt(5, SOL_SOCKET, SO_LINGER, &time, sizeof time);
    timeval timeout{3, 500'000};
    ::setsockopt(5, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    ::setsockopt(5, SOL_SOCKET, SO_BINDTODEVICE, "lo", 2);
    set_option(5, SOL_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
    set_option(5, SOL_TCP, TCP_KEEPIDLE, 111, "TCP_KEEPIDLE");
    set_option(5, SOL_TCP, TCP_KEEPINTVL, 22, "TCP_KEEPINTVL");
    set_option(5, SOL_TCP, TCP_KEEPCNT, 4, "TCP_KEEPCNT");
    set_option(5, SOL_IP, IP_TOS, 0x10, "IP_TOS");
    set_option(5, SOL_IP, IP_TTL, 33, "IP_TTL");
    place(::socket(AF_INET, SOCK_DGRAM, 0), 6);
    sock_fprog program{2, instructions};
    check(::setsockopt(6, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), "SO_ATTACH_FILTER");
    set_option(6, SOL_SOCKET, SO_BROADCAST, 1, "SO_BROADCAST");
    set_option(6, SOL_IP, IP_PKTINFO, 1, "IP_PKTINFO");
    set_option(6, SOL_IP, IP_FREEBIND, 1, "IP_FREEBIND");
  });
  REQUIRE(trip.dump_problems == "");
  REQUIRE(trip.plan_problems == "");
  CHECK(trip.entry(5).opts().so_linger() == 9);
  CHECK(trip.entry(5).opts().so_bound_dev() == "lo");
  CHECK(trip.entry(5).opts().so_buf_lock() == 1);  // the size of the send buffer was chosen
  CHECK(trip.entry(6).opts().so_filter(1) ==
        (uint64_t{BPF_RET | BPF_K} << 48 | uint64_t{1} << 40 | uint64_t{2} << 32));
  for (int number : {5, 6}) {
    int fd = trip.open(number);
    CHECK(sockets::collect_socket_options(fd).SerializeAsString() ==
          trip.entry(number).opts().SerializeAsString());
    CHECK(sockets::collect_ip_options(fd, AF_INET).SerializeAsString() ==
          trip.entry(number).ip_opts().SerializeAsString());
  }
  CHECK(sockets::collect_tcp_options(trip.open(5)).SerializeAsString() ==
        trip.entry(5).tcp_opts().SerializeAsString());
}

TEST_CASE("TCP sockets that are not connected, bound or not") {
  uint16_t port = free_port();
  RoundTrip trip([&] {
    place(bound(AF_INET, SOCK_STREAM, loopback(AF_INET, port)), 5);
    place(::socket(AF_INET6, SOCK_STREAM, 0), 6);
  });
  REQUIRE(trip.dump_problems == "");
  REQUIRE(trip.plan_problems == "");
  CHECK(trip.entry(5).shutdown() == pb::NONE);
  CHECK(InetAddress::local_of(trip.open(5)).text() == fmt::format("127.0.0.1:{}", port));
  CHECK(state_of(trip.open(5)) == TCP_CLOSE);
  CHECK(InetAddress::local_of(trip.open(6)).port() == 0);
  CHECK(::listen(trip.open(5), 1) == 0);
}

TEST_CASE("an established connection is a problem, and with tcp_close comes back closed") {
  uint16_t port = free_port();
  auto open_files = [&] {
    place(bound(AF_INET, SOCK_STREAM, loopback(AF_INET, port)), 5);
    ::listen(5, 5);
    place(::socket(AF_INET, SOCK_STREAM, 0), 6);
    auto address = loopback(AF_INET, port);
    check(::connect(6, address.get(), address.size), "connect");
    place(::accept(5, nullptr, nullptr), 7);
    place(::socket(AF_INET, SOCK_STREAM, 0), 8);  // waits to be accepted
    check(::connect(8, address.get(), address.size), "connect");
  };
  {
    FileHolder holder(open_files);
    FileDump dump;
    dump.add(holder);
    std::string problems = dump.problems();
    CHECK(problems.find(fmt::format(": TCP connection 127.0.0.1:{} - 127.0.0.1:", port)) !=
          std::string::npos);
    CHECK(problems.find("--tcp-close") != std::string::npos);
    CHECK(problems.find("1 connections wait to be accepted") != std::string::npos);
  }
  RoundTrip trip(open_files, {.tcp_close = true});
  REQUIRE(trip.dump_problems == "");
  REQUIRE(trip.plan_problems == "");
  CHECK(trip.entry(7).state() == TCP_ESTABLISHED);  // as in CRIU's images
  CHECK(trip.entry(7).src_port() == port);
  CHECK(trip.entry(6).dst_port() == port);
  trip.files->open_all();
  CHECK(state_of(trip.open(5)) == TCP_LISTEN);
  for (int number : {6, 7, 8}) {
    int fd = trip.open(number);
    char byte = 0;
    CHECK(::read(fd, &byte, 1) == 0);
    CHECK(::send(fd, "x", 1, MSG_NOSIGNAL) == -1);
    CHECK(errno == EPIPE);
    pollfd poll{fd, POLLIN | POLLRDHUP, 0};
    CHECK(::poll(&poll, 1, 0) == 1);
    CHECK((poll.revents & (POLLIN | POLLRDHUP | POLLHUP)) == (POLLIN | POLLRDHUP | POLLHUP));
  }
  // The same images without the option.
  files::FileOpener without(tree::make_file_kinds(), {}, trip.dump.images(), {1});
  CHECK(plan_of(without).find("pass --tcp-close") != std::string::npos);
}

TEST_CASE("a connection that both sides have ended needs no option") {
  uint16_t port = free_port();
  RoundTrip trip([&] {
    Fd listener(bound(AF_INET, SOCK_STREAM, loopback(AF_INET, port)));
    ::listen(listener.get(), 5);
    place(::socket(AF_INET, SOCK_STREAM, 0), 6);
    auto address = loopback(AF_INET, port);
    check(::connect(6, address.get(), address.size), "connect");
    Fd accepted(::accept(listener.get(), nullptr, nullptr));
    linger reset{1, 0};
    ::setsockopt(accepted.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    accepted.reset();
    pollfd poll{6, 0, 0};
    ::poll(&poll, 1, 10'000);
  });
  REQUIRE(trip.dump_problems == "");
  REQUIRE(trip.plan_problems == "");
  CHECK(trip.entry(6).state() == TCP_CLOSE);
  CHECK(trip.entry(6).shutdown() == pb::BOTH);
  char byte = 0;
  CHECK(::read(trip.open(6), &byte, 1) == 0);
}

TEST_CASE("UDP sockets: unbound, bound, connected, half shut down") {
  uint16_t port = free_port(SOCK_DGRAM), peer = free_port(SOCK_DGRAM);
  RoundTrip trip([&] {
    place(bound(AF_INET, SOCK_DGRAM, loopback(AF_INET, port)), 5);
    place(::socket(AF_INET6, SOCK_DGRAM, 0), 6);
    place(::socket(AF_INET, SOCK_DGRAM, 0), 7);
    auto address = loopback(AF_INET, peer);
    check(::connect(7, address.get(), address.size), "connect");
    check(::shutdown(7, SHUT_WR), "shutdown");
  });
  REQUIRE(trip.dump_problems == "");
  REQUIRE(trip.plan_problems == "");
  CHECK(trip.entry(7).shutdown() == pb::WRITE);
  trip.files->open_all();
  auto address = loopback(AF_INET, port);
  Fd client(::socket(AF_INET, SOCK_DGRAM, 0));
  CHECK(::sendto(client.get(), "x", 1, 0, address.get(), address.size) == 1);
  char byte = 0;
  CHECK(::recv(trip.open(5), &byte, 1, 0) == 1);
  CHECK(InetAddress::local_of(trip.open(6)).port() == 0);
  CHECK(InetAddress::peer_of(trip.open(7))->port() == peer);
  CHECK(::send(trip.open(7), "x", 1, MSG_NOSIGNAL) == -1);
  CHECK(errno == EPIPE);
}

TEST_CASE("sockets that share a port come back with their own options") {
  uint16_t port = free_port(), other = free_port();
  RoundTrip trip([&] {
    for (int number : {5, 6, 7}) {
      place(::socket(AF_INET, SOCK_STREAM, 0), number);
      set_option(number, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT");
      auto address = loopback(AF_INET, port);
      check(::bind(number, address.get(), address.size), "bind");
      check(::listen(number, 5), "listen");
    }
    // One listens beside one that is only bound: allowed in the order in which it happened.
    place(bound(AF_INET, SOCK_STREAM, loopback(AF_INET, other)), 9);
    place(bound(AF_INET, SOCK_STREAM, loopback(AF_INET, other)), 10);
    check(::listen(9, 5), "listen");
  });
  REQUIRE(trip.dump_problems == "");
  REQUIRE(trip.plan_problems == "");
  trip.files->open_all();
  for (int number : {5, 6, 7}) {
    CHECK(state_of(trip.open(number)) == TCP_LISTEN);
    CHECK(get_option(trip.open(number), SOL_SOCKET, SO_REUSEPORT, "") == 1);
    CHECK(get_option(trip.open(number), SOL_SOCKET, SO_REUSEADDR, "") == 0);
  }
  CHECK(state_of(trip.open(9)) == TCP_LISTEN);
  CHECK(InetAddress::local_of(trip.open(10)).port() == other);
  CHECK(get_option(trip.open(9), SOL_SOCKET, SO_REUSEPORT, "") == 0);
  CHECK(get_option(trip.open(10), SOL_SOCKET, SO_REUSEPORT, "") == 0);
}

TEST_CASE("a port in use and an address elsewhere are found before anything is restored") {
  uint16_t port = free_port();
  RoundTrip trip([&] {
    place(bound(AF_INET, SOCK_STREAM, loopback(AF_INET, port)), 5);
    ::listen(5, 5);
    place(::socket(AF_INET, SOCK_STREAM, 0), 6);
    auto address = loopback(AF_INET, 7777, "10.255.1.2");
    set_option(6, SOL_IP, IP_FREEBIND, 1, "IP_FREEBIND");
    check(::bind(6, address.get(), address.size), "bind");
    set_option(6, SOL_IP, IP_FREEBIND, 0, "IP_FREEBIND");
  });
  REQUIRE(trip.dump_problems == "");
  CHECK(trip.plan_problems == "TCP 10.255.1.2:7777: address 10.255.1.2 is not on this machine");
  Fd taken(bound(AF_INET, SOCK_STREAM, loopback(AF_INET, port)));
  ::listen(taken.get(), 1);
  files::FileOpener again(tree::make_file_kinds(), {}, trip.dump.images(), {1});
  CHECK(plan_of(again).find(fmt::format("TCP 127.0.0.1:{}: port {} is in use on this machine", port, port)) !=
        std::string::npos);
  try {
    trip.open(5);
    FAIL("two sockets listen on one port");
  } catch (const Error& error) {
    CHECK(
        std::string(error.what()).find(fmt::format("bind(TCP 127.0.0.1:{}): Address already in use", port)) !=
        std::string::npos);
  }
}

TEST_CASE("a socket of another network namespace is a problem") {
  FileHolder holder([] {
    check(::unshare(CLONE_NEWNET), "unshare");
    place(::socket(AF_INET, SOCK_STREAM, 0), 5);
  });
  FileDump dump;
  dump.add(holder);
  CHECK(dump.problems().find("belongs to another network namespace") != std::string::npos);
}
