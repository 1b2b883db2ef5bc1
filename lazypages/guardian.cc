#include "lazypages/guardian.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/base/unix_message.h"
#include "engine/kernel/userfaultfd.h"

namespace godwit::lazypages {
namespace {

enum What : uint32_t { kHold, kIdentify, kRelease, kFinish, kGiveUp };

constexpr std::array<int, 4> kNotForUs{SIGINT, SIGTERM, SIGHUP, SIGPIPE};

struct Order {
  uint32_t what = 0;
  uint32_t id = 0;
};

struct Guarded {
  kernel::Userfaultfd userfaults;
  Fd process;  // empty: not known
};

// Who waits for the end of a pipe or a connection that we have inherited must not wait for us; a log file
// stays.
void close_pipes_and_sockets(int kept) {
  std::vector<int> found;
  std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir("/proc/self/fd"), ::closedir);
  while (const dirent* entry = directory ? ::readdir(directory.get()) : nullptr) {
    int fd = std::atoi(entry->d_name);
    struct stat status {};
    if (fd <= STDERR_FILENO || fd == kept || ::fstat(fd, &status) != 0) continue;
    if (S_ISFIFO(status.st_mode) || S_ISSOCK(status.st_mode)) found.push_back(fd);
  }
  for (int fd : found) ::close(fd);
}

void replace_standard_streams() {
  Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null.get(), fd);
}

class Watch {
 public:
  Watch(Fd channel, Fd daemon) : channel_(std::move(channel)), daemon_(std::move(daemon)) {}

  void run() {
    for (;;) {
      Order order;
      Fd descriptor;
      if (!wait() || !receive(order, descriptor)) break;
      switch (order.what) {
        case kHold:
          guarded_.emplace(order.id, Guarded{kernel::Userfaultfd(std::move(descriptor)), Fd()});
          break;
        case kIdentify:
          if (auto at = guarded_.find(order.id); at != guarded_.end())
            at->second.process = std::move(descriptor);
          break;
        case kRelease:
          guarded_.erase(order.id);
          break;
        case kFinish:
          return;
        case kGiveUp:
          return stand_in();
      }
    }
    stand_in();
  }

 private:
  // For the next order; false when the daemon is dead and has left none. The end of the channel alone does
  // not say so: another process may have inherited the daemon's end.
  bool wait() {
    std::array<pollfd, 2> events{pollfd{channel_.get(), POLLIN, 0}, pollfd{daemon_.get(), POLLIN, 0}};
    while (::poll(events.data(), events.size(), -1) < 0 && errno == EINTR) {
    }
    return events[0].revents != 0;
  }

  // False at the end of the channel.
  bool receive(Order& order, Fd& descriptor) {
    auto message = receive_message(channel_.get(), writable_bytes_of(order));
    if (message.size != sizeof order) return false;
    if (!message.descriptors.empty()) descriptor = std::move(message.descriptors.front());
    return true;
  }

  void stand_in() {
    if (guarded_.empty()) return;
    log::error("the lazy-pages daemon ended before all pages were there: {} tasks cannot go on",
               guarded_.size());
    for (auto& [id, guarded] : guarded_) {
      if (!guarded.process) continue;
      ::syscall(SYS_pidfd_send_signal, guarded.process.get(), SIGKILL, nullptr, 0);
    }
    while (!guarded_.empty()) {
      std::erase_if(guarded_, [](const auto& entry) { return entry.second.userfaults.is_gone(); });
      ::usleep(100'000);
    }
  }

  Fd channel_, daemon_;
  std::map<uint32_t, Guarded> guarded_;
};

[[noreturn]] void be_guardian(Fd channel, Fd daemon, bool detached) {
  try {
    ::setsid();
    for (int signal : kNotForUs) ::signal(signal, SIG_IGN);
    ::prctl(PR_SET_NAME, "criu-guardian");
    if (::chdir("/") != 0) ::_exit(1);
    close_pipes_and_sockets(channel.get());
    if (detached) replace_standard_streams();
    // The last one that an exhausted machine should kill. Needs privilege; without it we are like others.
    if (Fd score(::open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC)); score) {
      [[maybe_unused]] ssize_t written = ::write(score.get(), "-1000", 5);
    }
    Watch(std::move(channel), std::move(daemon)).run();
  } catch (...) {
    ::_exit(1);
  }
  ::_exit(0);
}

}  // namespace

Guardian Guardian::start(bool detached) {
  SocketPair channel = SocketPair::create(SOCK_SEQPACKET);
  Fd daemon(check(static_cast<int>(::syscall(SYS_pidfd_open, ::getpid(), 0)), "pidfd_open"));
  // Until it ignores them, so that none of them ends it at its birth.
  sigset_t blocked, before;
  sigemptyset(&blocked);
  for (int signal : kNotForUs) sigaddset(&blocked, signal);
  check(::sigprocmask(SIG_BLOCK, &blocked, &before), "sigprocmask");
  Cleanup unblock([&] { ::sigprocmask(SIG_SETMASK, &before, nullptr); });
  pid_t pid = check(::fork(), "fork");
  if (pid == 0) {
    channel.first.reset();
    be_guardian(std::move(channel.second), std::move(daemon), detached);
  }
  return Guardian(std::move(channel.first), pid);
}

Guardian::Guardian(Guardian&& other) noexcept
    : channel_(std::move(other.channel_)), pid_(std::exchange(other.pid_, 0)) {}

Guardian::~Guardian() {
  tell(kGiveUp, 0, -1);
}

void Guardian::hold(uint32_t id, int userfaultfd) {
  tell(kHold, id, userfaultfd);
}
void Guardian::identify(uint32_t id, int pidfd) {
  tell(kIdentify, id, pidfd);
}
void Guardian::release(uint32_t id) {
  tell(kRelease, id, -1);
}

void Guardian::finish() {
  tell(kFinish, 0, -1);
  channel_.reset();
  while (pid_ > 0 && ::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = 0;
}

void Guardian::tell(uint32_t what, uint32_t id, int fd) {
  if (!channel_) return;
  Order order{what, id};
  auto descriptor = fd >= 0 ? std::span(&fd, 1) : std::span<int>();
  if (send_message(channel_.get(), bytes_of(order), descriptor) >= 0) return;
  int code = errno;
  channel_.reset();
  log::warning(
      "the guardian of the lazy-pages daemon is gone ({}): nobody will kill the tasks if the daemon dies",
      SystemError::errno_text(code));
}

}  // namespace godwit::lazypages
