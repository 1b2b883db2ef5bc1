#include "engine/memory/tracking_holder.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <optional>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/memory/tracking_socket.h"

namespace godwit::memory {
namespace {

using Clock = std::chrono::steady_clock;

std::string root_address(const ProcessIdentity& root) {
  return fmt::format("godwit-tracking/{}/{}", root.pid, root.start_time);
}

// Writes `text` over our arguments, where ps reads them; what is longer than those goes into the environment
// behind them, which the kernel follows when the last byte of the arguments is not zero
// (fs/proc/base.c: setproctitle). Through /proc/self/mem, so that a moved argument area is no crash.
void show_in_ps(const std::string& text) {
  kernel::TaskStat stat = kernel::read_task_stat(::getpid(), ::getpid());
  uint64_t end = stat.env_start == stat.arg_end ? std::max(stat.arg_end, stat.env_end) : stat.arg_end;
  if (end <= stat.arg_start) return;
  std::string area = text.substr(0, end - stat.arg_start - 1);
  area.resize(end - stat.arg_start, '\0');
  Fd memory = open_at(AT_FDCWD, "/proc/self/mem", O_RDWR);
  pwrite_all(memory.get(), std::as_bytes(std::span(area)), static_cast<off_t>(stat.arg_start), "arguments");
}

// Closes every descriptor but these; the standard ones become /dev/null. Nothing of the command that forked
// us may stay open: a pipe that its caller reads to the end, a lock, a page server's connection.
void close_all_but(std::vector<int> kept) {
  std::sort(kept.begin(), kept.end());
  unsigned first = 0;
  for (int fd : kept) {
    auto next = static_cast<unsigned>(fd);
    if (next > first) ::syscall(SYS_close_range, first, next - 1, 0);
    first = next + 1;
  }
  ::syscall(SYS_close_range, first, ~0u, 0);
  // They take the lowest free numbers, so all three below 3 are taken now.
  for (int i = 0; i < 3; ++i) {
    int fd = ::open("/dev/null", O_RDWR);
    if (fd > STDERR_FILENO) {
      ::close(fd);
      break;
    }
  }
}

class Holder {
 public:
  Holder(Fd directory, Fd socket, std::optional<Fd> root_socket, std::vector<TrackedProcess> processes)
      : directory_(std::move(directory)),
        socket_(std::move(socket)),
        root_socket_(std::move(root_socket)),
        processes_(std::move(processes)) {
    for (const auto& process : processes_) {
      targets_.emplace_back(
          static_cast<int>(::syscall(SYS_pidfd_open, process.identity.pid, 0)));  // empty: it is gone
    }
    drop_ended();
  }

  std::vector<int> descriptors() const {
    std::vector<int> fds{directory_.get(), socket_.get()};
    if (root_socket_) fds.push_back(root_socket_->get());
    for (const auto& process : processes_) fds.push_back(process.userfaults.get());
    for (const auto& target : targets_) fds.push_back(target.get());
    return fds;
  }

  void hold() {
    auto end = Clock::now() + std::chrono::seconds(kHolderLifetimeSeconds);
    while (!processes_.empty()) {
      auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now());
      if (left.count() <= 0) break;
      std::vector<pollfd> events{{socket_.get(), POLLIN, 0},
                                 {root_socket_ ? root_socket_->get() : -1, POLLIN, 0}};
      for (const auto& target : targets_) events.push_back({target.get(), POLLIN, 0});
      if (::poll(events.data(), events.size(), static_cast<int>(left.count())) < 0) continue;
      if (events[1].revents != 0 && asked_to_end()) break;
      if (events[0].revents != 0 && handed_over()) return;
      drop_ended(std::span(events).subspan(2));
    }
    remove_socket();
  }

 private:
  // Before the connection closes: who waits for that may register or listen at the same places at once.
  void release_all() {
    remove_socket();
    root_socket_.reset();
    socket_.reset();
    processes_.clear();
  }

  void remove_socket() { ::unlinkat(directory_.get(), kHolderSocketName, 0); }

  // True when somebody took everything. What one packet too few has reached uses nothing of it, so the other
  // end's death in the middle changes nothing for the next one who asks.
  bool handed_over() {
    Fd connection(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection || !peer_is_trusted(connection)) return false;
    timeval patience{10, 0};
    ::setsockopt(connection.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (!send_processes(connection, processes_)) return false;
    release_all();
    return true;
  }

  bool asked_to_end() {
    Fd connection(::accept4(root_socket_->get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection || !peer_is_trusted(connection)) return false;
    release_all();
    return true;
  }

  void drop_ended(std::span<const pollfd> events = {}) {
    for (size_t i = processes_.size(); i-- > 0;) {
      if (targets_[i] && (events.empty() || events[i].revents == 0)) continue;
      processes_.erase(processes_.begin() + static_cast<ptrdiff_t>(i));
      targets_.erase(targets_.begin() + static_cast<ptrdiff_t>(i));
    }
  }

  Fd directory_, socket_;
  std::optional<Fd> root_socket_;
  std::vector<TrackedProcess> processes_;
  std::vector<Fd> targets_;  // pidfds, as processes_
};

[[noreturn]] void be_holder(Holder& holder, pid_t root) {
  try {
    // Ends by itself and by SIGKILL; a hang-up of the terminal or an impatient ^C is not meant for it.
    for (int signal : {SIGHUP, SIGINT, SIGPIPE}) ::signal(signal, SIG_IGN);
    for (int signal : {SIGTERM, SIGCHLD, SIGALRM}) ::signal(signal, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    if (::chdir("/") != 0) ::_exit(1);
    close_all_but(holder.descriptors());
    ::prctl(PR_SET_NAME, "criu-holder");
    try {
      show_in_ps(fmt::format("criu: holds write-protection of pid {}", root));
    } catch (const std::exception&) {
      // The name is only for people.
    }
    holder.hold();
  } catch (...) {
    ::_exit(1);
  }
  ::_exit(0);
}

}  // namespace

void leave_with_holder(const images::ImageDirectory& directory, std::vector<TrackedProcess> processes) {
  if (processes.empty()) return;
  if (auto older = connect_in_directory(directory.fd(), kHolderSocketName)) receive_processes(*older);
  if (::unlinkat(directory.fd(), kHolderSocketName, 0) != 0 && errno != ENOENT)
    throw SystemError(errno, "unlink({}/{})", directory.path(), kHolderSocketName);
  ProcessIdentity root = processes.front().identity;
  end_holder_of(root);
  Fd socket = listen_in_directory(directory.fd(), kHolderSocketName);
  Holder holder(Fd(check(::fcntl(directory.fd(), F_DUPFD_CLOEXEC, 3), "dup")), std::move(socket),
                listen_abstract(root_address(root)), std::move(processes));
  // Twice, so that the holder is nobody's child and leaves no zombie in a command that lives on.
  pid_t middle = check(::fork(), "fork");
  if (middle == 0) {
    ::setsid();
    pid_t last = ::fork();
    if (last == 0) be_holder(holder, root.pid);
    ::_exit(last > 0 ? 0 : 1);
  }
  int status = 0;
  while (::waitpid(middle, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0) {
    ::unlinkat(directory.fd(), kHolderSocketName, 0);
    throw Error("the holder of the write-protection cannot be started");
  }
}

std::vector<TrackedProcess> take_from_holder(const images::ImageDirectory& directory) {
  constexpr const char* kConsequence = "every page counts as changed";
  try {
    auto connection = connect_in_directory(directory.fd(), kHolderSocketName);
    if (!connection) {
      bool died = ::unlinkat(directory.fd(), kHolderSocketName, 0) == 0;
      log::warning(
          "{}: {}: {}", directory.path(),
          died ? "the holder of the write-protection has died" : "nobody holds write-protection for it",
          kConsequence);
      return {};
    }
    if (auto processes = receive_processes(*connection)) return std::move(*processes);
    log::warning("{}: the holder of the write-protection does not answer: {}", directory.path(),
                 kConsequence);
  } catch (const Error& error) {
    log::warning("{}: {}: {}", directory.path(), error.what(), kConsequence);
  }
  return {};
}

void end_holder_of(const ProcessIdentity& root) {
  try {
    auto connection = connect_abstract(root_address(root));
    if (!connection) return;
    log::info("pid {}: an earlier chain of pre-dumps ends", root.pid);
    std::byte byte;
    while (::recv(connection->get(), &byte, 1, 0) > 0) {
    }
  } catch (const Error& error) {
    log::warning("pid {}: the holder of an earlier pre-dump cannot be ended: {}", root.pid, error.what());
  }
}

}  // namespace godwit::memory
