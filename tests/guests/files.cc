// files REPORT: holds one of every kind of open file that a dump knows, and checks them against what they
// must be.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

#include <string>

#include "guest.h"

namespace {

struct Files {
  int regular, regular_duplicate, append, directory;
  int pipe_read, pipe_write, quiet_read, quiet_write;
  int event, semaphore, timer, epoll;
  int null, zero, urandom, high;
  int listening, listening6, bound, udp;
};

int bind_tcp(int family, bool listens) {
  int fd = ::socket(family, SOCK_STREAM, 0);
  int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (family == AF_INET6) {
    ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_addr = in6addr_loopback;
    if (::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return -1;
  } else {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return -1;
  }
  if (listens && ::listen(fd, 17) != 0) return -1;
  return fd;
}

Files open_all(const std::string& base, guest::Report& report) {
  Files files{};
  files.regular = ::open((base + ".data").c_str(), O_RDWR | O_CREAT | O_TRUNC, 0640);
  EXPECT(::write(files.regular, "0123456789", 10) == 10);
  EXPECT(::lseek(files.regular, 4, SEEK_SET) == 4);
  files.regular_duplicate = ::dup(files.regular);
  files.append = ::open((base + ".log").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
  files.directory = ::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  int ends[2];
  EXPECT(::pipe(ends) == 0);
  files.pipe_read = ends[0];
  files.pipe_write = ends[1];
  EXPECT(::pipe2(ends, O_NONBLOCK | O_CLOEXEC) == 0);
  files.quiet_read = ends[0];
  files.quiet_write = ends[1];
  EXPECT(::write(files.quiet_write, "in flight", 9) == 9);
  files.event = ::eventfd(41, EFD_NONBLOCK);
  files.semaphore = ::eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK);
  files.timer = ::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  itimerspec often{{0, 5000000}, {0, 5000000}};
  EXPECT(::timerfd_settime(files.timer, 0, &often, nullptr) == 0);
  files.epoll = ::epoll_create1(EPOLL_CLOEXEC);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = 0x1122334455667788;
  EXPECT(::epoll_ctl(files.epoll, EPOLL_CTL_ADD, files.pipe_read, &event) == 0);
  event.data.u64 = 7;
  event.events = EPOLLIN | EPOLLET;
  EXPECT(::epoll_ctl(files.epoll, EPOLL_CTL_ADD, files.timer, &event) == 0);
  files.null = ::open("/dev/null", O_RDWR);
  files.zero = ::open("/dev/zero", O_RDONLY);
  files.urandom = ::open("/dev/urandom", O_RDONLY);
  files.high = ::fcntl(files.null, F_DUPFD, 700);
  files.listening = bind_tcp(AF_INET, true);
  files.listening6 = bind_tcp(AF_INET6, true);
  files.bound = bind_tcp(AF_INET, false);
  files.udp = ::socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT(::bind(files.udp, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  return files;
}

uint16_t port_of(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  return reinterpret_cast<sockaddr_in*>(&address)->sin_port;
}

// Connects to one of our own listening sockets, and closes both ends.
void check_listening(int fd, guest::Report& report) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  EXPECT(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0);
  int client = ::socket(address.ss_family, SOCK_STREAM, 0);
  linger now{1, 0};
  ::setsockopt(client, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  EXPECT(::connect(client, reinterpret_cast<sockaddr*>(&address), length) == 0);
  int server = ::accept(fd, nullptr, nullptr);
  EXPECT(server >= 0);
  ::close(server);
  ::close(client);
}

void check_pipes(const Files& files, guest::Report& report) {
  char text[16] = {};
  EXPECT(::read(files.quiet_read, text, sizeof text) == 9 && memcmp(text, "in flight", 9) == 0);
  EXPECT(::read(files.quiet_read, text, sizeof text) == -1 && errno == EAGAIN);
  EXPECT(::write(files.quiet_write, "in flight", 9) == 9);
  EXPECT((::fcntl(files.quiet_read, F_GETFL) & O_NONBLOCK) != 0);
  EXPECT(::fcntl(files.quiet_read, F_GETFD) == FD_CLOEXEC);
  EXPECT(::fcntl(files.pipe_read, F_GETFD) == 0);
  EXPECT(::write(files.pipe_write, "x", 1) == 1);
  epoll_event events[4];
  bool pipe_seen = false;
  for (int i = 0; i < 10 && !pipe_seen; ++i) {
    int count = ::epoll_wait(files.epoll, events, 4, 1000);
    for (int e = 0; e < count; ++e) pipe_seen |= events[e].data.u64 == 0x1122334455667788;
  }
  EXPECT(pipe_seen);
  EXPECT(::read(files.pipe_read, text, sizeof text) == 1);
}

void check_regular(const Files& files, guest::Report& report) {
  char text[4] = {};
  EXPECT(::read(files.regular, text, 2) == 2 && memcmp(text, "45", 2) == 0);
  EXPECT(::lseek(files.regular_duplicate, 0, SEEK_CUR) == 6);
  EXPECT(::lseek(files.regular_duplicate, 4, SEEK_SET) == 4);
  EXPECT((::fcntl(files.append, F_GETFL) & (O_APPEND | O_ACCMODE)) == (O_APPEND | O_WRONLY));
  EXPECT(::lseek(files.append, 0, SEEK_SET) == 0 && ::write(files.append, "z", 1) == 1);
  struct stat root {
  }, held{};
  EXPECT(::stat("/", &root) == 0 && ::fstat(files.directory, &held) == 0 && root.st_ino == held.st_ino);
  EXPECT(::write(files.high, "x", 1) == 1);
  EXPECT(::read(files.zero, text, 4) == 4 && text[0] == 0);
  EXPECT(::read(files.urandom, text, 4) == 4);
}

void check_events(const Files& files, guest::Report& report) {
  uint64_t value = 0;
  EXPECT(::read(files.event, &value, 8) == 8 && value == 41);
  EXPECT(::write(files.event, &value, 8) == 8);
  EXPECT(::read(files.semaphore, &value, 8) == 8 && value == 1);
  EXPECT(::write(files.semaphore, &value, 8) == 8);
  // A wait that a dump interrupts ends early with EINTR, as its restart block is lost.
  pollfd expiry{files.timer, POLLIN, 0};
  while (::poll(&expiry, 1, 5000) < 0 && errno == EINTR) {
  }
  EXPECT(::read(files.timer, &value, 8) == 8 && value >= 1 && value < 1000000);
}

}  // namespace

int main(int, char** argv) {
  guest::Report report(argv[1]);
  Files files = open_all(argv[1], report);
  const std::string connect_request = std::string(argv[1]) + ".connect";
  uint16_t ports[] = {port_of(files.listening), port_of(files.bound), port_of(files.udp)};
  for (;;) {
    check_regular(files, report);
    check_pipes(files, report);
    check_events(files, report);
    // Only when the test asks for it: a dump that falls into a round would find a connection.
    if (::unlink(connect_request.c_str()) == 0) {
      check_listening(files.listening, report);
      check_listening(files.listening6, report);
    }
    EXPECT(ports[0] == port_of(files.listening) && ports[1] == port_of(files.bound) &&
           ports[2] == port_of(files.udp));
    report.tick();
  }
}
