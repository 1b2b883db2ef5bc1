#pragma once

#include <signal.h>
#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "engine/tracee/tracee.h"

namespace godwit::tracee {

struct SeedOptions {
  // clone3's set_tid: the pid in the innermost namespace first; empty for any.
  std::vector<pid_t> set_tid;
  uint64_t clone_flags = 0;  // CLONE_NEW*, CLONE_PARENT; no sharing of memory
  int exit_signal = SIGCHLD;
  bool new_session = true;  // setsid
};

// PTRACE_O_* of a task that is being restored: EXITKILL, and its children and threads are traced too.
uint32_t restore_options();

// Creates a process and makes it run the seed: a program of one page, without libc, that does nothing. It is
// stopped at its first instruction, traced with restore_options(), without any descriptor, with all signals
// at their defaults and none blocked. It dies with this thread. Throws Error; "pid N is already taken by
// COMM".
Tracee spawn_seed(const SeedOptions& options);

}  // namespace godwit::tracee
