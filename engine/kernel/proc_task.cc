#include "engine/kernel/proc_task.h"

#include <fcntl.h>

#include <functional>
#include <map>

#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/kernel/text_fields.h"

namespace godwit::kernel {
namespace {

template <class Number>
void take_numbers(std::string_view words, std::array<Number, 4>& out, const char* what) {
  for (Number& number : out) number = parse_number<Number>(take_word(words), what);
}

template <class Number>
std::vector<Number> take_list(std::string_view words, const char* what) {
  std::vector<Number> list;
  for (auto word = take_word(words); !word.empty(); word = take_word(words)) {
    list.push_back(parse_number<Number>(word, what));
  }
  return list;
}

using FieldParser = void (*)(TaskStatus&, std::string_view);

template <auto Member, int Base>
void number_field(TaskStatus& status, std::string_view text) {
  using Number = std::remove_reference_t<decltype(status.*Member)>;
  std::string_view word = take_word(text);
  if constexpr (std::is_same_v<Number, bool>) {
    status.*Member = parse_number<int>(word, "status", Base) != 0;
  } else {
    status.*Member = parse_number<Number>(word, "status", Base);
  }
}

const std::map<std::string_view, FieldParser>& status_fields() {
  static const std::map<std::string_view, FieldParser> fields{
      {"Umask", number_field<&TaskStatus::umask, 8>},
      {"Tgid", number_field<&TaskStatus::tgid, 10>},
      {"Pid", number_field<&TaskStatus::pid, 10>},
      {"PPid", number_field<&TaskStatus::ppid, 10>},
      {"TracerPid", number_field<&TaskStatus::tracer_pid, 10>},
      {"Uid", [](TaskStatus& s, std::string_view t) { take_numbers(t, s.uids, "Uid"); }},
      {"Gid", [](TaskStatus& s, std::string_view t) { take_numbers(t, s.gids, "Gid"); }},
      {"Groups", [](TaskStatus& s, std::string_view t) { s.groups = take_list<uint32_t>(t, "Groups"); }},
      {"SigPnd", number_field<&TaskStatus::pending, 16>},
      {"ShdPnd", number_field<&TaskStatus::shared_pending, 16>},
      {"SigBlk", number_field<&TaskStatus::blocked, 16>},
      {"SigIgn", number_field<&TaskStatus::ignored, 16>},
      {"SigCgt", number_field<&TaskStatus::caught, 16>},
      {"CapInh", number_field<&TaskStatus::cap_inheritable, 16>},
      {"CapPrm", number_field<&TaskStatus::cap_permitted, 16>},
      {"CapEff", number_field<&TaskStatus::cap_effective, 16>},
      {"CapBnd", number_field<&TaskStatus::cap_bounding, 16>},
      {"CapAmb", number_field<&TaskStatus::cap_ambient, 16>},
      {"NoNewPrivs", number_field<&TaskStatus::no_new_privs, 10>},
      {"Seccomp", number_field<&TaskStatus::seccomp, 10>},
      {"Seccomp_filters", number_field<&TaskStatus::seccomp_filters, 10>},
      {"THP_enabled", number_field<&TaskStatus::thp_enabled, 10>},
      {"RssAnon", number_field<&TaskStatus::anonymous_kib, 10>},
      {"VmSwap", number_field<&TaskStatus::swap_kib, 10>},
      {"NSpid", [](TaskStatus& s, std::string_view t) { s.namespace_pids = take_list<pid_t>(t, "NSpid"); }},
  };
  return fields;
}

// A /proc file of a task, or nothing when the task is gone: the file may vanish between open (ENOENT) and
// read (ESRCH).
std::optional<std::string> read_if_alive(pid_t pid, pid_t tid, const char* name) {
  try {
    return read_file_if_exists(AT_FDCWD, fmt::format("/proc/{}/task/{}/{}", pid, tid, name));
  } catch (const SystemError& error) {
    if (error.code() == ESRCH) return std::nullopt;
    throw;
  }
}

}  // namespace

TaskStat parse_task_stat(std::string_view text) {
  // The command name stands in parentheses and may hold anything, parentheses too: the last one ends it.
  size_t open = text.find('('), close = text.rfind(')');
  if (open == std::string_view::npos || close == std::string_view::npos || close < open) {
    throw FormatError("stat without a command name: '{}'", text);
  }
  TaskStat stat;
  std::string_view before = text.substr(0, open);
  stat.pid = parse_number<pid_t>(take_word(before), "stat pid");
  stat.comm = text.substr(open + 1, close - open - 1);
  std::string_view rest = text.substr(close + 1);
  while (!rest.empty() && rest.back() == '\n') rest.remove_suffix(1);
  std::string_view state = take_word(rest);
  stat.state = state.empty() ? '?' : state[0];
  std::array<std::string_view, 53> field;  // numbered as in proc(5)
  for (size_t number = 4; number < field.size(); ++number) field[number] = take_word(rest);
  auto signed_field = [&](size_t number) { return parse_number<int64_t>(field[number], "stat"); };
  auto address_field = [&](size_t number) { return parse_number<uint64_t>(field[number], "stat"); };
  stat.ppid = static_cast<pid_t>(signed_field(4));
  stat.pgrp = static_cast<pid_t>(signed_field(5));
  stat.session = static_cast<pid_t>(signed_field(6));
  stat.tty_device = static_cast<int32_t>(signed_field(7));
  stat.tty_pgrp = static_cast<pid_t>(signed_field(8));
  stat.nice = signed_field(19);
  stat.start_time = address_field(22);
  stat.start_code = address_field(26);
  stat.end_code = address_field(27);
  stat.start_stack = address_field(28);
  stat.start_data = address_field(45);
  stat.end_data = address_field(46);
  stat.start_brk = address_field(47);
  stat.arg_start = address_field(48);
  stat.arg_end = address_field(49);
  stat.env_start = address_field(50);
  stat.env_end = address_field(51);
  stat.exit_code = static_cast<int32_t>(signed_field(52));
  return stat;
}

TaskStatus parse_task_status(std::string_view text) {
  TaskStatus status;
  while (!text.empty()) {
    std::string_view line = take_until(text, '\n');
    std::string_view key = take_until(line, ':');
    if (auto found = status_fields().find(key); found != status_fields().end()) found->second(status, line);
  }
  return status;
}

std::optional<TaskStat> read_task_stat_if_alive(pid_t pid, pid_t tid) {
  auto text = read_if_alive(pid, tid, "stat");
  if (!text) return std::nullopt;
  return parse_task_stat(*text);
}

std::optional<TaskStatus> read_task_status_if_alive(pid_t pid, pid_t tid) {
  auto text = read_if_alive(pid, tid, "status");
  if (!text) return std::nullopt;
  return parse_task_status(*text);
}

TaskStat read_task_stat(pid_t pid, pid_t tid) {
  if (auto stat = read_task_stat_if_alive(pid, tid)) return *stat;
  throw SystemError(ESRCH, "pid {}", tid);
}

TaskStatus read_task_status(pid_t pid, pid_t tid) {
  if (auto status = read_task_status_if_alive(pid, tid)) return *status;
  throw SystemError(ESRCH, "pid {}", tid);
}

}  // namespace godwit::kernel
