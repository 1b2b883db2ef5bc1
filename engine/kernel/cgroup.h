#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "engine/base/fd.h"

namespace godwit::kernel {

// A cgroup of the unified hierarchy (cgroup v2), as a place to freeze and kill whole trees at once; beside v1
// controllers too. Source: Documentation/admin-guide/cgroup-v2.rst.
class Cgroup {
 public:
  // The cgroup of this process; empty when no cgroup2 file system is mounted, or only read-only.
  static std::optional<Cgroup> of_self_if_available();

  // Makes a child cgroup of this name, or opens one that is there. Both throw SystemError.
  Cgroup create_child(const std::string& name) const;
  Cgroup open_child(const std::string& name) const;

  // Moves a whole process, whichever thread `pid` names.
  void add(pid_t pid) const;
  std::vector<pid_t> processes() const;
  // Freezing takes effect as tasks leave the kernel; tasks in a ptrace stop count as frozen.
  void set_frozen(bool frozen) const;
  // SIGKILL for every process in it, frozen or not (cgroup.kill, Linux 5.14; one by one before).
  void kill_all() const;
  bool populated() const;
  // Removes the empty cgroup; one that still has processes is left, with false.
  bool remove_if_empty() const;

  const std::string& path() const { return path_; }

 private:
  explicit Cgroup(std::string path);
  void write(const char* file, const std::string& text) const;

  std::string path_;
  Fd directory_;
};

}  // namespace godwit::kernel
