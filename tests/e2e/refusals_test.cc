// What cannot be dumped is refused by name before anything changes, and the workload runs on.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "tests/support/child.h"
#include "tests/support/program.h"
#include "tests/support/temporary_directory.h"

namespace godwit::test {
namespace {

struct Board {
  std::atomic<unsigned long> rounds{0};
};

// A process that counts, and has prepared itself by `prepare`, which returns false when that is not possible
// here. It has none of our descriptors.
class Counting {
 public:
  explicit Counting(const std::function<bool()>& prepare)
      : child_([this, &prepare] {
          ::setsid();
          int null = ::open("/dev/null", O_RDWR);
          for (int fd : {0, 1, 2}) ::dup2(null, fd);
          ::close_range(3, ~0u, 0);
          if (!prepare()) ::_exit(3);
          for (;;) {
            ++board_->rounds;
            ::usleep(500);
          }
        }) {
    if (!goes_on()) throw std::runtime_error("the process could not prepare itself");
  }
  pid_t pid() const { return child_.pid(); }
  bool goes_on() {
    unsigned long before = board_->rounds;
    return eventually([&] { return board_->rounds > before + 3 || child_.has_ended(); }) &&
           !child_.has_ended();
  }

 private:
  Shared<Board> board_;
  Child child_;
};

std::string state_of(pid_t pid) {
  std::string all;
  for (const char* name : {"maps", "limits"}) {
    std::ifstream file("/proc/" + std::to_string(pid) + "/" + name);
    all.append(std::istreambuf_iterator<char>(file), {});
  }
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("Sig") || line.starts_with("TracerPid") || line.starts_with("FDSize"))
      all += line + "\n";
  }
  return all;
}

void is_refused(const std::function<bool()>& prepare, const std::vector<std::string>& named) {
  CAPTURE(named[0]);
  TemporaryDirectory directory;
  Counting counting(prepare);
  std::string before = state_of(counting.pid());
  Outcome outcome = criu({"dump", "-t", std::to_string(counting.pid()), "-D", directory.path()});
  CHECK(outcome.status == 1);
  for (const auto& name : named)
    CHECK_MESSAGE(outcome.output.find(name) != std::string::npos, outcome.output);
  CHECK(outcome.output.find(std::to_string(counting.pid())) != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(directory / "inventory.img"));
  CHECK(counting.goes_on());
  CHECK(state_of(counting.pid()) == before);
}

TEST_CASE("open files that are not available yet") {
  is_refused(
      [] {
        int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
        sockaddr_un address{AF_UNIX, "\0godwit-refusal"};
        return ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(sa_family_t) + 15) == 0;
      },
      {"unix socket", "godwit-refusal"});
  is_refused(
      [] {
        char path[] = "/tmp/godwit-deleted-XXXXXX";
        return ::mkstemp(path) >= 0 && ::unlink(path) == 0;
      },
      {"/tmp/godwit-deleted-", "deleted"});
  is_refused([] { return ::memfd_create("scribble", 0) >= 0; }, {"memfd", "scribble"});
  is_refused(
      [] {
        sigset_t mask;
        sigemptyset(&mask);
        return ::signalfd(-1, &mask, 0) >= 0;
      },
      {"signalfd"});
  is_refused([] { return ::inotify_init1(0) >= 0; }, {"inotify"});
  is_refused([] { return ::socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE) >= 0; }, {"netlink"});
  is_refused([] { return ::syscall(SYS_pidfd_open, ::getpid(), 0) >= 0; }, {"pidfd"});
}

TEST_CASE("memory that is not available yet") {
  is_refused(
      [] {
        return ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
      },
      {"shared"});
  is_refused(
      [] {
        char path[] = "/tmp/godwit-mapped-XXXXXX";
        int fd = ::mkstemp(path);
        bool mapped =
            ::ftruncate(fd, 4096) == 0 && ::mmap(nullptr, 4096, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED;
        ::close(fd);
        return mapped && ::unlink(path) == 0;
      },
      {"/tmp/godwit-mapped-", "deleted"});
}

TEST_CASE("namespaces of its own, and a root directory") {
  is_refused([] { return ::unshare(CLONE_NEWUTS) == 0; }, {"uts namespace"});
  is_refused([] { return ::unshare(CLONE_NEWNET) == 0; }, {"net namespace"});
  is_refused([] { return ::unshare(CLONE_NEWIPC | CLONE_NEWNS) == 0; }, {"ipc namespace", "mnt namespace"});
  is_refused([] { return ::chroot("/usr") == 0; }, {"root directory"});
  // The namespace's first process is the one that counts; its parent outside has the pid.
  is_refused(
      [] {
        if (::unshare(CLONE_NEWPID) != 0) return false;
        pid_t inside = ::fork();
        if (inside == 0) {
          for (;;) ::pause();
        }
        return inside > 0;
      },
      {"pid namespace"});
}

TEST_CASE("tasks that share what only threads share here, and a session outside") {
  is_refused(
      [] {
        long child = ::syscall(SYS_clone, CLONE_FILES | SIGCHLD, nullptr, nullptr, nullptr, 0);
        if (child == 0) {
          for (;;) ::pause();
        }
        return child > 0;
      },
      {"shares its descriptors"});
}

TEST_CASE("several obstacles are all told at once") {
  is_refused(
      [] {
        return ::memfd_create("first", 0) >= 0 && ::inotify_init1(0) >= 0 && ::unshare(CLONE_NEWUTS) == 0;
      },
      {"memfd", "inotify", "uts namespace"});
}

}  // namespace
}  // namespace godwit::test
