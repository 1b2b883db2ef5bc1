#pragma once

#include <sys/types.h>

#include <cstdint>

#include "engine/kernel/proc_task.h"

namespace godwit::memory {

// Tells a process from a later one with the same pid, and its address space from the one that an exec made:
// with address space randomisation the stack starts elsewhere.
struct ProcessIdentity {
  pid_t pid = 0;
  uint64_t start_time = 0;   // clock ticks since boot
  uint64_t start_stack = 0;  // of the address space

  bool operator==(const ProcessIdentity&) const = default;
};

inline ProcessIdentity identity_of(const kernel::TaskStat& stat) {
  return {stat.pid, stat.start_time, stat.start_stack};
}
// Throws SystemError ESRCH when there is no such process.
inline ProcessIdentity identity_of(pid_t pid) {
  return identity_of(kernel::read_task_stat(pid, pid));
}
// Whether the process still runs; its address space may be another.
inline bool is_alive(const ProcessIdentity& process) {
  auto stat = kernel::read_task_stat_if_alive(process.pid, process.pid);
  return stat && stat->start_time == process.start_time && stat->state != 'Z' && stat->state != 'X';
}

}  // namespace godwit::memory
