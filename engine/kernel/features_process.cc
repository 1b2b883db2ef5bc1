#include <fcntl.h>
#include <linux/filter.h>
#include <linux/kcmp.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <ctime>
#include <functional>

#include "engine/base/bytes.h"
#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/kernel/cgroup.h"
#include "engine/kernel/feature_probes.h"
#include "engine/kernel/kernel_constants.h"

namespace godwit::kernel::probes {
namespace {

// A child that waits to be looked at, and ends when this goes.
class WaitingChild {
 public:
  // The child runs `prepare` first; when that throws or returns false, the constructor throws.
  explicit WaitingChild(const std::function<bool()>& prepare) {
    Pipe started = Pipe::create();
    pid_ = check(::fork(), "fork");
    if (pid_ == 0) live(prepare, started.write_end);
    started.write_end.reset();
    std::byte byte;
    bool prepared = read_up_to(started.read_end.get(), std::span(&byte, 1), "probe") == 1;
    if (!prepared) {
      end();
      throw Error("the probing process could not be prepared");
    }
  }
  WaitingChild(const WaitingChild&) = delete;
  WaitingChild& operator=(const WaitingChild&) = delete;
  ~WaitingChild() { end(); }

  pid_t pid() const { return pid_; }

  // Attaches and stops it; the errno of what failed, or 0.
  int stop(unsigned long ptrace_options = 0) const {
    if (::ptrace(PTRACE_SEIZE, pid_, nullptr, ptrace_options) != 0) return errno;
    if (::ptrace(PTRACE_INTERRUPT, pid_, nullptr, nullptr) != 0) return errno;
    return ::waitpid(pid_, nullptr, __WALL) == pid_ ? 0 : errno;
  }

 private:
  [[noreturn]] static void live(const std::function<bool()>& prepare, const Fd& started) {
    bool prepared = false;
    try {
      prepared = prepare();
    } catch (const std::exception&) {
    }
    if (!prepared || ::write(started.get(), "", 1) != 1) ::_exit(1);
    for (;;) ::pause();
  }
  void end() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, __WALL);
  }

  pid_t pid_;
};

FeatureResult missing_errno(const char* call, int error) {
  errno = error;
  return missing_call(call);
}

// A pid that nobody has at this moment, most likely: a child of ours just had it.
pid_t free_pid() {
  pid_t pid = check(::fork(), "fork");
  if (pid == 0) ::_exit(0);
  check(::waitpid(pid, nullptr, 0), "waitpid");
  return pid;
}

// A child under this very pid, by clone3(2); -1 with errno.
pid_t clone_as(pid_t wanted) {
  clone_args arguments{};
  arguments.exit_signal = SIGCHLD;
  arguments.set_tid = reinterpret_cast<uint64_t>(&wanted);
  arguments.set_tid_size = 1;
  auto pid = static_cast<pid_t>(::syscall(SYS_clone3, &arguments, sizeof arguments));
  if (pid == 0) ::_exit(::getpid() == wanted ? 0 : 1);
  return pid;
}

// Allows everything; two instructions, so that its length can be recognised.
constexpr sock_filter kAllowAll[] = {
    {BPF_LD | BPF_W | BPF_ABS, 0, 0, 0},
    {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
};

bool install_filter() {
  sock_fprog program{2, const_cast<sock_filter*>(kAllowAll)};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

FeatureResult create_timer_by_id() {
  if (::prctl(PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_ON, 0, 0, 0) != 0) {
    return missing_call("PR_TIMER_CREATE_RESTORE_IDS");
  }
  constexpr int kWanted = 424242;
  int id = kWanted;
  if (::syscall(SYS_timer_create, CLOCK_MONOTONIC, nullptr, &id) != 0) return missing_call("timer_create");
  return id == kWanted ? supported() : missing("timer_create chooses another id");
}

time_t monotonic_seconds() {
  timespec now{};
  ::syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
  return now.tv_sec;
}

FeatureResult shift_own_clock() {
  constexpr time_t kShift = 1'000'000;
  if (::unshare(CLONE_NEWTIME) != 0) return missing_call("unshare(CLONE_NEWTIME)");
  Fd offsets = open_at(AT_FDCWD, "/proc/self/timens_offsets", O_WRONLY);
  std::string text = fmt::format("monotonic {} 0", kShift);
  write_all(offsets.get(), std::as_bytes(std::span(text)), "/proc/self/timens_offsets");
  time_t before = monotonic_seconds();
  // The namespace is entered by children only.
  return in_child([before] {
    return monotonic_seconds() >= before + kShift ? supported() : missing("the clock's offset has no effect");
  });
}

FeatureResult new_namespace(int flag, const char* file, const char* call) {
  return in_child([=] {
    std::string path = std::string("/proc/self/ns/") + file;
    std::string before = read_link(AT_FDCWD, path);
    if (::unshare(flag) != 0) return missing_call(call);
    return read_link(AT_FDCWD, path) != before ? supported()
                                               : missing(std::string(call) + " changes nothing");
  });
}

bool wait_until_frozen(const Cgroup& cgroup) {
  for (int attempt = 0; attempt < 200; ++attempt) {
    if (read_file(AT_FDCWD, cgroup.path() + "/cgroup.events").find("frozen 1") != std::string::npos)
      return true;
    ::usleep(10'000);
  }
  return false;
}

}  // namespace

FeatureResult set_tid() {
  // Somebody may take the pid first; that says nothing about the kernel, so try others.
  for (int attempt = 0; attempt < 20; ++attempt) {
    pid_t wanted = free_pid();
    pid_t pid = clone_as(wanted);
    if (pid < 0 && errno == EEXIST) continue;
    if (pid < 0) return missing_call("clone3 with set_tid");
    int status = 0;
    check(::waitpid(pid, &status, 0), "waitpid");
    return status == 0 && pid == wanted ? supported() : missing("clone3 ignores set_tid");
  }
  return missing("clone3 with set_tid: every pid that was tried is taken");
}

FeatureResult same_object() {
  Pipe pipe = Pipe::create();
  Fd duplicate = pipe.read_end.duplicate();
  pid_t self = ::getpid();
  long same = ::syscall(SYS_kcmp, self, self, KCMP_FILE, pipe.read_end.get(), duplicate.get());
  if (same < 0) return missing_call("kcmp");
  long different = ::syscall(SYS_kcmp, self, self, KCMP_FILE, pipe.read_end.get(), pipe.write_end.get());
  return same == 0 && different > 0 ? supported() : missing("kcmp compares wrongly");
}

FeatureResult same_epoll_target() {
  Pipe pipe = Pipe::create();
  Fd epoll(check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1"));
  epoll_event event{};
  check(::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, pipe.read_end.get(), &event), "epoll_ctl");
  kcmp_epoll_slot slot{static_cast<uint32_t>(epoll.get()), static_cast<uint32_t>(pipe.read_end.get()), 0};
  pid_t self = ::getpid();
  long result = ::syscall(SYS_kcmp, self, self, KCMP_EPOLL_TFD, pipe.read_end.get(), &slot);
  if (result < 0) return missing_call("KCMP_EPOLL_TFD");
  return result == 0 ? supported() : missing("KCMP_EPOLL_TFD does not know a file that epoll watches");
}

FeatureResult pidfd_getfd() {
  Pipe pipe = Pipe::create();
  WaitingChild child([] { return true; });
  Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, child.pid(), 0)));
  if (!pidfd) return missing_call("pidfd_open");
  Fd taken(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd.get(), pipe.read_end.get(), 0)));
  if (!taken) return missing_call("pidfd_getfd");
  struct stat ours {
  }, theirs{};
  check(::fstat(pipe.read_end.get(), &ours), "fstat");
  check(::fstat(taken.get(), &theirs), "fstat");
  return ours.st_ino == theirs.st_ino ? supported() : missing("pidfd_getfd gives another file");
}

FeatureResult peek_signals() {
  WaitingChild child([] {
    sigset_t set;
    ::sigemptyset(&set);
    ::sigaddset(&set, SIGUSR1);
    return ::sigprocmask(SIG_BLOCK, &set, nullptr) == 0 && ::kill(::getpid(), SIGUSR1) == 0;
  });
  if (int error = child.stop()) return missing_errno("PTRACE_SEIZE", error);
  __ptrace_peeksiginfo_args arguments{};
  arguments.flags = PTRACE_PEEKSIGINFO_SHARED;
  arguments.nr = 1;
  siginfo_t signal{};
  long count = ::ptrace(PTRACE_PEEKSIGINFO, child.pid(), &arguments, &signal);
  if (count < 0) return missing_call("PTRACE_PEEKSIGINFO");
  return count == 1 && signal.si_signo == SIGUSR1 ? supported()
                                                  : missing("PTRACE_PEEKSIGINFO misses a signal");
}

FeatureResult seccomp_suspend() {
  WaitingChild child(install_filter);
  if (int error = child.stop(PTRACE_O_SUSPEND_SECCOMP))
    return missing_errno("PTRACE_O_SUSPEND_SECCOMP", error);
  return supported();
}

FeatureResult seccomp_filters() {
  WaitingChild child(install_filter);
  if (int error = child.stop()) return missing_errno("PTRACE_SEIZE", error);
  sock_filter read_back[2];
  long length = ::ptrace(PTRACE_SECCOMP_GET_FILTER, child.pid(), 0, read_back);
  if (length < 0) return missing_call("PTRACE_SECCOMP_GET_FILTER");
  bool same = length == 2 && std::memcmp(read_back, kAllowAll, sizeof read_back) == 0;
  return same ? supported() : missing("PTRACE_SECCOMP_GET_FILTER gives another filter");
}

FeatureResult rseq_configuration() {
  WaitingChild child([] { return true; });
  if (int error = child.stop()) return missing_errno("PTRACE_SEIZE", error);
  __ptrace_rseq_configuration configuration{};
  long size = ::ptrace(PTRACE_GET_RSEQ_CONFIGURATION, child.pid(), sizeof configuration, &configuration);
  if (size < 0) return missing_call("PTRACE_GET_RSEQ_CONFIGURATION");
  return supported();
}

FeatureResult timer_ids() {
  return in_child(create_timer_by_id);
}

FeatureResult cgroup_freezer() {
  auto own = Cgroup::of_self_if_available();
  if (!own) return missing("no cgroup v2 hierarchy is mounted here for writing");
  Cgroup child_group = own->create_child(fmt::format("godwit-probe-{}", ::getpid()));
  Cleanup remove([&] {
    for (int attempt = 0; attempt < 100 && !child_group.remove_if_empty(); ++attempt) ::usleep(10'000);
  });
  WaitingChild child([] { return true; });
  child_group.add(child.pid());
  child_group.set_frozen(true);
  bool frozen = wait_until_frozen(child_group);
  child_group.set_frozen(false);
  return frozen ? supported() : missing("a frozen cgroup does not report so: " + child_group.path());
}

FeatureResult time_namespace() {
  return in_child(shift_own_clock);
}
FeatureResult user_namespace() {
  return new_namespace(CLONE_NEWUSER, "user", "unshare(CLONE_NEWUSER)");
}
FeatureResult cgroup_namespace() {
  return new_namespace(CLONE_NEWCGROUP, "cgroup", "unshare(CLONE_NEWCGROUP)");
}

FeatureResult namespace_pids() {
  std::string status = read_file(AT_FDCWD, "/proc/self/status");
  return status.find("\nNSpid:") != std::string::npos ? supported()
                                                      : missing("/proc/PID/status has no NSpid line");
}

}  // namespace godwit::kernel::probes
