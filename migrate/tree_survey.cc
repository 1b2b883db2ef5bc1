#include "migrate/tree_survey.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <map>
#include <memory>

#include "engine/base/error.h"
#include "engine/base/units.h"
#include "engine/files/path_file.h"
#include "engine/kernel/proc_maps.h"
#include "engine/kernel/proc_task.h"
#include "engine/kernel/text_fields.h"
#include "migrate/cpu_features.h"

namespace godwit::migrate {
namespace {

std::vector<int> numbers_in(const std::string& directory) {
  std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(directory.c_str()), ::closedir);
  std::vector<int> numbers;
  if (!stream) return numbers;
  while (const dirent* entry = ::readdir(stream.get())) {
    if (entry->d_name[0] != '.') numbers.push_back(kernel::parse_number<int>(entry->d_name, "/proc"));
  }
  return numbers;
}

// The files of a tree, each once.
class FileList {
 public:
  void add(const std::string& link, uint32_t flags) {
    struct stat status {};
    if (::stat(link.c_str(), &status) < 0) return;  // closed meanwhile
    mode_t type = status.st_mode & S_IFMT;
    if (type != S_IFREG && type != S_IFDIR && type != S_IFCHR) return;
    auto path = read_link_if_exists(AT_FDCWD, link);
    // What has no path to look for is the dump's to judge: memfds, deleted files, sockets.
    if (!path || !path->starts_with('/') || status.st_nlink == 0) return;
    if (path->starts_with("/proc/") || path->starts_with("/dev/pts/")) return;
    if (path->starts_with("/memfd:") || path->starts_with("/SYSV")) return;
    if (!files_.try_emplace(*path).second) return;
    auto& entry = files_[*path];
    files::collect_path_file({.link = link, .path = *path, .status = status, .flags = flags}, entry);
    entry.set_id(static_cast<uint32_t>(files_.size()));
    entry.set_pos(0);
    entry.mutable_fown()->set_uid(0);
    entry.mutable_fown()->set_euid(0);
    entry.mutable_fown()->set_signum(0);
    entry.mutable_fown()->set_pid_type(0);
    entry.mutable_fown()->set_pid(0);
  }

  std::vector<pb::reg_file_entry> take() {
    std::vector<pb::reg_file_entry> list;
    for (auto& [path, entry] : files_) list.push_back(std::move(entry));
    return list;
  }

 private:
  std::map<std::string, pb::reg_file_entry> files_;
};

uint32_t open_flags(pid_t pid, int number) {
  auto text = read_file_if_exists(AT_FDCWD, fmt::format("/proc/{}/fdinfo/{}", pid, number));
  if (!text) return O_RDONLY;
  std::string_view rest = *text;
  while (!rest.empty()) {
    std::string_view line = kernel::take_until(rest, '\n');
    std::string_view name = kernel::take_until(line, ':');
    if (name != "flags") continue;
    return kernel::parse_number<uint32_t>(kernel::take_word(line), "fdinfo flags", 8) &
           ~static_cast<uint32_t>(O_CLOEXEC);
  }
  return O_RDONLY;
}

void add_files(pid_t pid, FileList& files) {
  files.add(fmt::format("/proc/{}/exe", pid), O_RDONLY);
  files.add(fmt::format("/proc/{}/cwd", pid), O_RDONLY | O_DIRECTORY);
  for (int number : numbers_in(fmt::format("/proc/{}/fd", pid))) {
    files.add(fmt::format("/proc/{}/fd/{}", pid, number), open_flags(pid, number));
  }
  auto maps = read_file_if_exists(AT_FDCWD, fmt::format("/proc/{}/maps", pid));
  if (!maps) return;
  std::set<std::string> seen;
  for (const auto& map : kernel::parse_maps(*maps)) {
    if (!map.name.starts_with('/') || !seen.insert(map.name).second) continue;
    files.add(fmt::format("/proc/{}/map_files/{:x}-{:x}", pid, map.start, map.end), O_RDONLY);
  }
}

uint64_t resident_bytes(pid_t pid) {
  auto text = read_file_if_exists(AT_FDCWD, fmt::format("/proc/{}/statm", pid));
  if (!text) return 0;
  std::string_view rest = *text;
  kernel::take_word(rest);
  return kernel::parse_number<uint64_t>(kernel::take_word(rest), "statm") * kPageSize;
}

std::vector<pid_t> children_of(pid_t pid, pid_t tid) {
  std::vector<pid_t> children;
  auto text = read_file_if_exists(AT_FDCWD, fmt::format("/proc/{}/task/{}/children", pid, tid));
  if (!text) return children;
  std::string_view rest = *text;
  for (auto word = kernel::take_word(rest); !word.empty(); word = kernel::take_word(rest)) {
    children.push_back(kernel::parse_number<pid_t>(word, "children"));
  }
  return children;
}

void survey_process(pid_t pid, TreeSurvey& survey, FileList& files) {
  auto stat = kernel::read_task_stat_if_alive(pid, pid);
  if (!stat) return;
  survey.pids.push_back(pid);
  for (pid_t number : {stat->pid, stat->pgrp, stat->session}) {
    if (number > 0) survey.numbers.insert(static_cast<uint32_t>(number));
  }
  if (stat->state == 'T') survey.stopped.insert(pid);
  survey.resident_bytes += resident_bytes(pid);
  add_files(pid, files);
  for (int tid : numbers_in(fmt::format("/proc/{}/task", pid))) {
    ++survey.threads;
    survey.numbers.insert(static_cast<uint32_t>(tid));
    for (pid_t child : children_of(pid, tid)) survey_process(child, survey, files);
  }
}

uint64_t nanoseconds(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

}  // namespace

TreeSurvey survey_tree(pid_t root) {
  ErrorContext context{"pid {}", root};
  auto stat = kernel::read_task_stat_if_alive(root, root);
  if (!stat) throw Error("no such process");
  auto status = kernel::read_task_status_if_alive(root, root);
  if (status && status->tgid != root) throw Error("is a thread of pid {}: name that", status->tgid);
  TreeSurvey survey;
  survey.name = stat->comm;
  FileList files;
  survey_process(root, survey, files);
  survey.files = files.take();
  return survey;
}

pb::preflight make_preflight(const TreeSurvey& survey, bool postcopy) {
  pb::preflight question;
  for (uint32_t number : survey.numbers) question.add_numbers(number);
  for (const auto& file : survey.files) *question.add_files() = file;
  CpuFeatures cpu = cpu_features_here();
  for (const auto& flag : cpu.flags) question.add_cpu_flags(flag);
  question.set_xfeatures(cpu.xfeatures);
  question.set_memory_bytes(survey.resident_bytes);
  question.set_monotonic_ns(nanoseconds(CLOCK_MONOTONIC));
  question.set_boottime_ns(nanoseconds(CLOCK_BOOTTIME));
  question.set_realtime_ns(static_cast<int64_t>(nanoseconds(CLOCK_REALTIME)));
  question.set_postcopy(postcopy);
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  question.set_hostname(name);
  return question;
}

}  // namespace godwit::migrate
