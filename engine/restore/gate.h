#pragma once

#include <sys/types.h>

#include <optional>

#include "engine/base/fd.h"
#include "engine/kernel/cgroup.h"

namespace godwit::restore {

// Makes the end of a restore all or nothing: no process or the whole tree, whenever we die.
//
// A watcher process, forked before the first task, waits at a pipe. The tasks are kept in a frozen cgroup, so
// that they do not run when they are detached one by one. One byte into the pipe is the release: the watcher
// thaws the cgroup with one write, moves the tasks where they belong and removes it. The pipe's end without
// that byte means that we died: it kills everything in the cgroup. Where there is no cgroup v2 the watcher
// holds a pidfd of every process instead, and tasks run from their detach on.
class Gate {
 public:
  Gate();
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  // Without release() every task that was admitted is killed.
  ~Gate();

  // Takes a process in; its later children are in the same cgroup by themselves, but each must be admitted
  // for the sake of the other way.
  void admit(pid_t pid);
  // From now on an admitted task does not run even when nothing traces it.
  void hold();
  // Lets all of them go. Throws Error when the watcher is gone or failed; the tasks are killed then.
  void release();

 private:
  void end_watcher();

  std::optional<kernel::Cgroup> home_, cgroup_;
  Fd to_watcher_, from_watcher_;
  pid_t watcher_ = -1;
};

}  // namespace godwit::restore
