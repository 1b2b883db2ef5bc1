#pragma once

#include <sys/types.h>

#include <chrono>
#include <vector>

#include "engine/tracee/tracee.h"
#include "engine/tracee/waiter.h"

namespace godwit::tracee {

struct FreezeOptions {
  // How long all of the freeze may take; zero for as long as it takes.
  std::chrono::milliseconds timeout{10'000};
};

enum class ProcessState { kAlive, kZombie };

struct FrozenProcess {
  pid_t pid = 0, ppid = 0;
  ProcessState state = ProcessState::kAlive;
  int exit_status = 0;          // of a zombie, as wait(2) would report it
  int stop_signal = 0;          // not 0: the process is in a group stop by this signal
  std::vector<Tracee> threads;  // the leader first; empty for a zombie

  Tracee& leader() { return threads.front(); }
  const Tracee& leader() const { return threads.front(); }
};

// A tree of processes, every thread of it stopped and traced by the calling thread. Move-only; the destructor
// lets all run on.
class FrozenTree {
 public:
  explicit FrozenTree(std::vector<FrozenProcess> processes) : processes_(std::move(processes)) {}
  FrozenTree(FrozenTree&&) noexcept = default;
  FrozenTree& operator=(FrozenTree&& other) noexcept;
  ~FrozenTree() { thaw(); }

  // Every parent before its children; the root first.
  std::vector<FrozenProcess>& processes() { return processes_; }
  const std::vector<FrozenProcess>& processes() const { return processes_; }
  FrozenProcess& root() { return processes_.front(); }

  // Detaches everything; the tasks run on, those in a group stop stay in it. Cure the RemoteCallers first.
  // Nothing is left to do for a second call.
  void thaw() noexcept;
  // The same, but every process is left in a group stop by SIGSTOP (--leave-stopped).
  void thaw_stopped() noexcept;
  // Ends every process with SIGKILL, and waits until their parents have been told. A process that is a child
  // of the caller's is left for the caller to wait for.
  void kill_all() noexcept;

 private:
  std::vector<FrozenProcess> processes_;
};

// Stops `root`, all its descendants and all their threads, until a whole pass finds nothing new. Throws Error
// with one clear line when that cannot be done (no such process, a kernel thread, no permission, traced
// already, this program itself in the tree, the root exits meanwhile, the time-out passes); everything runs
// on then.
FrozenTree freeze_tree(pid_t root, const FreezeOptions& options);

}  // namespace godwit::tracee
