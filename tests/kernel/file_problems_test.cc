// Files that cannot be dumped: each is named, with what the user can do.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "engine/base/error.h"
#include "tests/support/file_holder.h"

using namespace godwit;
using test::FileDump;
using test::FileHolder;

namespace {

// The problems of a process that holds one file, as number 7.
std::string problems_of(const std::function<int()>& open_file, pid_t* pid = nullptr) {
  FileHolder holder([&] {
    int fd = check(open_file(), "open");
    ::dup2(fd, 7);
    if (fd != 7) ::close(fd);
    ::close_range(8, ~0u, 0);
  });
  if (pid) *pid = holder.pid();
  FileDump dump;
  dump.add(holder);
  return dump.problems();
}

bool ends_with(const std::string& text, const std::string& end) {
  INFO(text);
  return text.ends_with(end);
}

}  // namespace

TEST_CASE("a problem tells process, descriptor and file") {
  pid_t pid = 0;
  std::string text = problems_of([] { return ::inotify_init1(0); }, &pid);
  CHECK(text == fmt::format("pid {}: fd 7: anon_inode:inotify: inotify cannot be dumped yet", pid));
}

TEST_CASE("kernel objects without a kind") {
  sigset_t none;
  sigemptyset(&none);
  CHECK(ends_with(problems_of([&] { return ::signalfd(-1, &none, 0); }), "signalfd cannot be dumped yet"));
  CHECK(ends_with(problems_of([] { return ::memfd_create("x", 0); }), "memfd cannot be dumped yet"));
  CHECK(problems_of([] {
          return static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0));
        }).find("pidfd") != std::string::npos);
  CHECK(ends_with(problems_of([] { return ::open("/proc/self/ns/net", O_RDONLY); }),
                  "descriptors of net are not available yet"));
  CHECK(ends_with(problems_of([] { return ::posix_openpt(O_RDWR | O_NOCTTY); }),
                  "redirect it (setsid, < /dev/null)"));
  CHECK(ends_with(problems_of([] { return ::open("/dev/net/tun", O_RDWR); }),
                  "tun/tap interfaces are not available yet"));
  CHECK(ends_with(problems_of([] { return ::open("/dev/fuse", O_RDWR); }),
                  "character device 10:229 cannot be dumped"));
}

TEST_CASE("sockets without a kind") {
  test::TemporaryDirectory directory;
  std::string path = directory / "s";
  std::string text = problems_of([&] {
    int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    check(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), "bind");
    return fd;
  });
  CHECK(ends_with(text, "unix socket " + path + ": unix sockets are not available yet"));
  CHECK(problems_of([] {
          int pair[2];
          check(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
          return pair[0];
        }).find("(other end made by pid ") != std::string::npos);
  CHECK(ends_with(problems_of([] { return ::socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE); }),
                  "netlink socket (protocol 0): netlink sockets are not available yet"));
  CHECK(ends_with(problems_of([] { return ::socket(AF_PACKET, SOCK_RAW, 0); }),
                  "packet socket: packet sockets are not available yet"));
  CHECK(ends_with(problems_of([] { return ::socket(AF_INET, SOCK_RAW, IPPROTO_ICMP); }),
                  "raw socket (protocol 1): raw sockets are not available yet"));
}

TEST_CASE("files whose path does not lead back to them") {
  test::TemporaryDirectory directory;
  std::string path = directory / "a";
  auto create = [&] { return ::open(path.c_str(), O_RDWR | O_CREAT, 0644); };
  CHECK(ends_with(problems_of([&] {
                    int fd = create();
                    ::unlink(path.c_str());
                    return fd;
                  }),
                  path + " (deleted): deleted files: ghost files are not available yet"));
  CHECK(problems_of([&] {
          int fd = create();
          ::link(path.c_str(), (path + "2").c_str());
          ::unlink(path.c_str());
          return fd;
        }).find("this name was deleted and the file has another") != std::string::npos);
  CHECK(ends_with(problems_of([] { return ::open("/proc/self/status", O_RDONLY); }),
                  "files of a process in /proc cannot be dumped yet"));
  std::string fifo = directory / "fifo";
  ::mkfifo(fifo.c_str(), 0600);
  CHECK(ends_with(problems_of([&] { return ::open(fifo.c_str(), O_RDWR); }),
                  "named pipes (FIFOs) are not available yet"));
  // Mounted over: the old file is reached by no path.
  std::string text = problems_of([&] {
    check(::unshare(CLONE_NEWNS), "unshare");
    check(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "mount");
    check(::mount("none", directory.path().c_str(), "tmpfs", 0, nullptr), "mount");
    return create();
  });
  INFO(text);
  CHECK((text.find("the path does not lead to it") != std::string::npos ||
         text.find("another file has this path now") != std::string::npos));
}

TEST_CASE("file locks") {
  test::TemporaryDirectory directory;
  std::string path = directory / "a";
  CHECK(ends_with(problems_of([&] {
                    int fd = ::open(path.c_str(), O_RDWR | O_CREAT, 0644);
                    ::flock(fd, LOCK_EX);
                    return fd;
                  }),
                  "fd 7: holds a file lock (FLOCK WRITE): --file-locks is not available yet"));
}
