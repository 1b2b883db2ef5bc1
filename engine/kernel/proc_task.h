#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// /proc/PID/stat and /proc/PID/status as structures. Source: proc(5), Documentation/filesystems/proc.rst.
namespace godwit::kernel {

struct TaskStat {
  pid_t pid = 0;
  std::string comm;
  char state = '?';  // R S D T t Z X ...
  pid_t ppid = 0, pgrp = 0, session = 0;
  int32_t tty_device = 0;  // dev_t of the controlling terminal, 0 for none
  pid_t tty_pgrp = -1;     // its foreground process group, -1 for none
  int64_t nice = 0;
  uint64_t start_time = 0;  // clock ticks since boot
  uint64_t start_code = 0, end_code = 0, start_stack = 0;
  uint64_t start_data = 0, end_data = 0, start_brk = 0;
  uint64_t arg_start = 0, arg_end = 0, env_start = 0, env_end = 0;
  int32_t exit_code = 0;  // a wait status
};
TaskStat parse_task_stat(std::string_view text);

struct TaskStatus {
  uint32_t umask = 0;
  pid_t tgid = 0, pid = 0, ppid = 0, tracer_pid = 0;
  std::array<uint32_t, 4> uids{}, gids{};  // real, effective, saved, file system
  std::vector<uint32_t> groups;
  uint64_t pending = 0, shared_pending = 0, blocked = 0, ignored = 0, caught = 0;
  uint64_t cap_inheritable = 0, cap_permitted = 0, cap_effective = 0, cap_bounding = 0, cap_ambient = 0;
  bool no_new_privs = false;
  int seccomp = 0;  // 0 none, 1 strict, 2 filter
  uint32_t seccomp_filters = 0;
  bool thp_enabled = true;
  uint64_t anonymous_kib = 0, swap_kib = 0;  // RssAnon, VmSwap
  std::vector<pid_t> namespace_pids;         // NSpid: outermost first
};
TaskStatus parse_task_status(std::string_view text);

// Reads /proc/PID/stat or status; a process that is gone (ENOENT, ESRCH) is an empty optional.
std::optional<TaskStat> read_task_stat_if_alive(pid_t pid, pid_t tid);
std::optional<TaskStatus> read_task_status_if_alive(pid_t pid, pid_t tid);
// The same where the task must be there: SystemError ESRCH.
TaskStat read_task_stat(pid_t pid, pid_t tid);
TaskStatus read_task_status(pid_t pid, pid_t tid);

}  // namespace godwit::kernel
