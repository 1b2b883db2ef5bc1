#include "engine/tracee/freeze.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/base/log.h"
#include "engine/kernel/proc_task.h"
#include "engine/kernel/text_fields.h"

namespace godwit::tracee {
namespace {

// Threads and children made while we freeze come to us by themselves, stopped: else a program that makes and
// ends threads all the time could stay ahead of us for ever. Not vfork: its child must run until its exec or
// exit, or the parent never stops.
constexpr uint32_t kFreezeOptions = PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK;

// What is waited for a thread that does not stop, when all is given up anyway.
constexpr std::chrono::milliseconds kGrace{50};

constexpr int kQuietPasses = 2;

// How long a process may take to die of SIGKILL; one that is stuck in the kernel must not hold us for ever.
constexpr std::chrono::seconds kKillPatience{10};

std::vector<pid_t> list_threads(pid_t pid) {
  std::vector<pid_t> tids;
  std::error_code error;  // the process is gone: no threads
  std::filesystem::directory_iterator entry(fmt::format("/proc/{}/task", pid), error), end;
  for (; !error && entry != end; entry.increment(error)) {
    tids.push_back(kernel::parse_number<pid_t>(entry->path().filename().string(), "/proc/PID/task"));
  }
  auto leader = std::find(tids.begin(), tids.end(), pid);
  if (leader != tids.end()) std::rotate(tids.begin(), leader, leader + 1);
  return tids;
}

std::vector<pid_t> list_children(pid_t pid, pid_t tid) {
  auto text = read_file_if_exists(AT_FDCWD, fmt::format("/proc/{}/task/{}/children", pid, tid));
  std::vector<pid_t> children;
  if (!text) return children;
  std::string_view rest = *text;
  for (auto word = kernel::take_word(rest); !word.empty() && word != "\n"; word = kernel::take_word(rest)) {
    children.push_back(kernel::parse_number<pid_t>(word, "children"));
  }
  return children;
}

// Whether the thread sits in vfork until its child has executed something or ended.
bool waits_in_vfork(pid_t pid, pid_t tid) {
  auto place = read_file_if_exists(AT_FDCWD, fmt::format("/proc/{}/task/{}/wchan", pid, tid));
  if (place && place->find("vfork") != std::string::npos) return true;
  auto stack = read_file_if_exists(AT_FDCWD, fmt::format("/proc/{}/task/{}/stack", pid, tid));
  return stack &&
         (stack->find("vfork") != std::string::npos || stack->find("kernel_clone") != std::string::npos);
}

// PF_KTHREAD (include/linux/sched.h) in the ninth field of /proc/PID/stat.
bool is_kernel_thread(pid_t pid) {
  constexpr uint64_t kKernelThread = 0x00200000;
  constexpr int kFieldsBetween = 6;  // from the name's end to the flags
  auto text = read_file_if_exists(AT_FDCWD, fmt::format("/proc/{}/stat", pid));
  if (!text) return false;
  std::string_view rest = *text;
  rest.remove_prefix(rest.rfind(')') + 1);
  for (int i = 0; i < kFieldsBetween; ++i) kernel::take_word(rest);
  return (kernel::parse_number<uint64_t>(kernel::take_word(rest), "flags of stat") & kKernelThread) != 0;
}

void check_root(pid_t root) {
  auto status = kernel::read_task_status_if_alive(root, root);
  auto stat = kernel::read_task_stat_if_alive(root, root);
  if (!status || !stat) throw Error("pid {}: no such process", root);
  if (status->tgid != root)
    throw Error("pid {} is a thread of process {}, not a process", root, status->tgid);
  if (stat->state == 'Z' || stat->state == 'X')
    throw Error("pid {} ({}) has exited already", root, stat->comm);
  if (is_kernel_thread(root)) throw Error("pid {} ({}): a kernel thread cannot be dumped", root, stat->comm);
}

class Freezer {
 public:
  Freezer(pid_t root, Deadline deadline, std::chrono::milliseconds timeout)
      : root_(root), deadline_(deadline), timeout_(timeout) {}
  ~Freezer() { give_up(); }

  std::vector<FrozenProcess> run();

 private:
  // One whole pass over the tree; whether it found anything new.
  bool pass();
  bool freeze_process(pid_t pid, FrozenProcess& process);
  bool seize_new_threads(pid_t pid, FrozenProcess& process);
  void wait_until_stopped(FrozenProcess& process);
  std::optional<WaitStatus> wait_for_stop(Tracee& tracee);
  void record_zombie(FrozenProcess& process, const kernel::TaskStat& stat);
  void let_go_of_strangers(Deadline deadline);
  [[noreturn]] void throw_timeout(const Tracee& tracee);
  void give_up() noexcept;

  pid_t root_;
  Deadline deadline_;
  std::chrono::milliseconds timeout_;
  KernelWaiter waiter_;
  std::vector<FrozenProcess> processes_;  // parents first
  std::map<pid_t, size_t> index_;         // pid -> place in processes_
  std::set<pid_t> stopped_;               // tids that are known to be stopped
  std::set<pid_t> born_;                  // tids that became ours by their birth
};

std::vector<FrozenProcess> Freezer::run() {
  processes_.push_back(FrozenProcess{.pid = root_, .threads = {}});
  index_[root_] = 0;
  // Twice nothing new: a listing of children can miss one when its neighbour ends that moment.
  for (int quiet = 0; quiet < kQuietPasses;) quiet = pass() ? 0 : quiet + 1;
  for (FrozenProcess& process : processes_) {
    for (Tracee& tracee : process.threads) tracee.set_options(0);
  }
  let_go_of_strangers(deadline_);
  return std::exchange(processes_, {});
}

bool Freezer::pass() {
  bool found = false;
  for (size_t i = 0; i < processes_.size(); ++i) {
    pid_t pid = processes_[i].pid;
    found |= freeze_process(pid, processes_[i]);
    if (processes_[i].pid == 0) continue;
    std::vector<pid_t> parents;
    for (const Tracee& tracee : processes_[i].threads) parents.push_back(tracee.tid());
    for (pid_t tid : parents) {
      for (pid_t child : list_children(pid, tid)) {
        if (index_.contains(child)) continue;
        index_[child] = processes_.size();
        processes_.push_back(FrozenProcess{.pid = child, .ppid = pid, .threads = {}});
        found = true;
      }
    }
  }
  // Processes that ended meanwhile; their children have other parents now, which the next pass asks.
  std::erase_if(processes_, [](const FrozenProcess& process) { return process.pid == 0; });
  index_.clear();
  for (size_t i = 0; i < processes_.size(); ++i) index_[processes_[i].pid] = i;
  return found;
}

// True when a thread was new. A process that is gone gets the pid 0.
bool Freezer::freeze_process(pid_t pid, FrozenProcess& process) {
  if (process.state == ProcessState::kZombie) return false;
  if (pid == ::getpid()) throw Error("this program itself (pid {}) is in the tree of pid {}", pid, root_);
  bool found = false;
  while (seize_new_threads(pid, process)) {
    found = true;
    wait_until_stopped(process);
  }
  auto stat = kernel::read_task_stat_if_alive(pid, pid);
  bool leader_dead = !stat || stat->state == 'Z' || stat->state == 'X';
  if (!leader_dead) {
    process.ppid = stat->ppid;
    return found;
  }
  if (pid == root_) throw Error("pid {} exited during the dump", pid);
  if (!process.threads.empty()) {
    throw RefusedError("pid {}: its main thread has ended while others run on", pid);
  }
  if (stat && stat->state == 'Z') {
    record_zombie(process, *stat);
  } else {
    process.pid = 0;
  }
  return true;
}

void Freezer::record_zombie(FrozenProcess& process, const kernel::TaskStat& stat) {
  process.state = ProcessState::kZombie;
  process.ppid = stat.ppid;
  process.exit_status = stat.exit_code;
}

// Seizes what the process has and we do not know yet; false when its list of threads is just what we know. A
// listing ends early when the thread that it has come to dies that moment; so one that shows a thread which
// then cannot be seized proves nothing, and is taken again.
bool Freezer::seize_new_threads(pid_t pid, FrozenProcess& process) {
  bool changing = false;
  for (pid_t tid : list_threads(pid)) {
    auto same = [tid](const Tracee& tracee) { return tracee.tid() == tid; };
    if (std::any_of(process.threads.begin(), process.threads.end(), same)) continue;
    auto tracee = Tracee::seize_if_alive(pid, tid, kFreezeOptions);
    if (!tracee) {
      // One that was born traced and killed at once stays until we have waited for it. A leader stays dead.
      if (tid != pid) {
        waiter_.wait(tid, Clock::now());
        changing = true;
      }
      continue;
    }
    process.threads.push_back(std::move(*tracee));
    // One that was born traced is stopped, or soon will be, and may already have died of a SIGKILL.
    ::ptrace(PTRACE_INTERRUPT, tid, nullptr, nullptr);
    changing = true;
  }
  if (changing && deadline_ && Clock::now() > *deadline_) {
    throw Error("pid {}: its threads do not come to rest within {} ms", pid, timeout_.count());
  }
  return changing;
}

void Freezer::wait_until_stopped(FrozenProcess& process) {
  for (Tracee& tracee : process.threads) {
    if (stopped_.contains(tracee.tid())) continue;
    auto stop = wait_for_stop(tracee);
    if (!stop) throw_timeout(tracee);
    if (stop->is_dead()) {
      tracee.forget();
      continue;
    }
    tracee.capture(*stop);
    stopped_.insert(tracee.tid());
    if (tracee.frozen().stop_signal != 0) process.stop_signal = tracee.frozen().stop_signal;
  }
  std::erase_if(process.threads, [](const Tracee& tracee) { return !tracee.attached(); });
}

// Until the stop that PTRACE_INTERRUPT asked for, a group stop, or the thread's end. A signal that was on its
// way is delivered first, as it would have been without us.
std::optional<WaitStatus> Freezer::wait_for_stop(Tracee& tracee) {
  auto stopped = [](WaitStatus status) { return status.event() == PTRACE_EVENT_STOP; };
  auto go_on = [&](WaitStatus status) {
    if (status.event() != 0) born_.insert(static_cast<pid_t>(tracee.event_message()));
    // Any stop takes back an interrupt that is under way (ptrace_stop in kernel/signal.c): ask again.
    tracee.interrupt();
    tracee.resume(status.delivery_signal());
  };
  return wait_until(waiter_, tracee.tid(), deadline_, stopped, go_on);
}

// A child that was born traced, and whose parent ended before we asked for its children: now it is some other
// process's child and none of our business.
void Freezer::let_go_of_strangers(Deadline deadline) {
  for (pid_t tid : born_) {
    if (stopped_.contains(tid)) continue;
    Tracee stranger = Tracee::already_attached(tid, tid, 0);
    auto stop = waiter_.wait(tid, deadline);
    if (stop && stop->is_dead()) stranger.forget();
  }
}

void Freezer::throw_timeout(const Tracee& tracee) {
  if (waits_in_vfork(tracee.pid(), tracee.tid())) {
    throw Error(
        "pid {} (thread {}) waits in vfork for its child, which neither executed a program nor exited "
        "within {} ms; try again, or with a longer --timeout",
        tracee.pid(), tracee.tid(), timeout_.count());
  }
  auto stat = kernel::read_task_stat_if_alive(tracee.pid(), tracee.tid());
  throw Error("pid {} (thread {}, state {}) did not stop within {} ms", tracee.pid(), tracee.tid(),
              stat ? stat->state : '?', timeout_.count());
}

// Something failed. A thread can only be let go while it is stopped, so what was told to stop is waited for,
// shortly; one that does not (vfork) is let go by the end of our program.
void Freezer::give_up() noexcept {
  Deadline soon = Clock::now() + kGrace;
  for (FrozenProcess& process : processes_) {
    for (Tracee& tracee : process.threads) {
      if (stopped_.contains(tracee.tid())) continue;
      try {
        deadline_ = soon;
        wait_for_stop(tracee);
      } catch (const std::exception& error) {
        log::warning("pid {}: {}", process.pid, error.what());
      }
    }
  }
  try {
    if (!processes_.empty()) let_go_of_strangers(soon);
  } catch (const std::exception& error) {
    log::warning("freeze of pid {}: {}", root_, error.what());
  }
}

}  // namespace

FrozenTree freeze_tree(pid_t root, const FreezeOptions& options) {
  if (root == ::getpid()) throw Error("pid {} is this program itself", root);
  check_root(root);
  Deadline deadline;
  if (options.timeout.count() > 0) deadline = Clock::now() + options.timeout;
  return FrozenTree(Freezer(root, deadline, options.timeout).run());
}

FrozenTree& FrozenTree::operator=(FrozenTree&& other) noexcept {
  if (this != &other) {
    thaw();
    processes_ = std::move(other.processes_);
  }
  return *this;
}

void FrozenTree::thaw() noexcept {
  processes_.clear();
}

void FrozenTree::thaw_stopped() noexcept {
  for (FrozenProcess& process : processes_) {
    if (process.state == ProcessState::kAlive && process.stop_signal == 0) ::kill(process.pid, SIGSTOP);
  }
  thaw();
}

void FrozenTree::kill_all() noexcept {
  for (auto process = processes_.rbegin(); process != processes_.rend(); ++process) {
    if (process->state == ProcessState::kAlive) ::kill(process->pid, SIGKILL);
  }
  // The parent of a killed process hears of it only when its tracer has waited for all of its threads, for
  // the leader last.
  KernelWaiter waiter;
  Deadline deadline = Clock::now() + kKillPatience;
  for (FrozenProcess& process : processes_) {
    for (auto tracee = process.threads.rbegin(); tracee != process.threads.rend(); ++tracee) {
      // A child of our own is left to whoever waits for it.
      bool ours = process.ppid == ::getpid() && tracee->tid() == process.pid;
      try {
        while (!ours) {
          auto status = waiter.wait(tracee->tid(), deadline);
          if (!status || status->is_dead()) break;
        }
      } catch (const std::exception& error) {
        log::warning("pid {}: {}", process.pid, error.what());
      }
      tracee->forget();
    }
  }
  thaw();
}

}  // namespace godwit::tracee
