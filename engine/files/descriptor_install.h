#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <vector>

#include "engine/tracee/batch.h"

namespace godwit::files {

// A descriptor that a task is to have.
struct WantedDescriptor {
  int number = -1;
  bool close_on_exec = false;
  int source = -1;  // the number under which the process that hands it out has it
};

// One system call of the installation. All descriptor numbers are known beforehand, because the task begins
// with an empty table and the kernel gives the lowest free number.
struct InstallStep {
  enum class Call {
    kOpenPidfd,   // pidfd_open(owner), which gives `to`
    kGet,         // pidfd_getfd(pidfd `from`, `source`), which gives `to`, close-on-exec
    kMove,        // dup3(from, to), close-on-exec if so
    kClose,       // close(from)
    kKeepOnExec,  // FD_CLOEXEC of `from` off
  };
  Call call;
  int from = -1, to = -1, source = -1;
  bool close_on_exec = false;
};

// The steps that give a task with an empty table these descriptors, which stand in ascending order of their
// numbers, without repetition. No number is used that is above all wanted ones, unless they leave no gap:
// then the one above.
std::vector<InstallStep> install_steps(std::span<const WantedDescriptor> wanted);
// The highest number that the steps use, -1 for none: it must be below the task's RLIMIT_NOFILE.
int highest_number(std::span<const InstallStep> steps);
// The steps as batches of at most `max_calls` calls; the descriptors come from process `owner`.
std::vector<tracee::Batch> install_batches(std::span<const InstallStep> steps, pid_t owner, size_t max_calls);

}  // namespace godwit::files
