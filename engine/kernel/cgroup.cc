#include "engine/kernel/cgroup.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string_view>

#include "engine/base/error.h"
#include "engine/kernel/text_fields.h"

namespace godwit::kernel {
namespace {

// Where cgroup2 is mounted writable: "36 35 0:31 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup rw".
std::optional<std::string> mount_point() {
  std::string text = read_file(AT_FDCWD, "/proc/self/mountinfo");
  for (std::string_view rest = text; !rest.empty();) {
    std::string_view line = take_until(rest, '\n');
    size_t dash = line.find(" - cgroup2 ");
    if (dash == std::string_view::npos) continue;
    for (int skipped = 0; skipped < 4; ++skipped) take_word(line);
    std::string point(take_word(line));
    if (take_word(line).starts_with("rw")) return point;
  }
  return std::nullopt;
}

// This process's place in the unified hierarchy: the line "0::/path".
std::optional<std::string> own_place() {
  std::string text = read_file(AT_FDCWD, "/proc/self/cgroup");
  for (std::string_view rest = text; !rest.empty();) {
    std::string_view line = take_until(rest, '\n');
    if (line.starts_with("0::")) return std::string(line.substr(3));
  }
  return std::nullopt;
}

}  // namespace

Cgroup::Cgroup(std::string path)
    : path_(std::move(path)), directory_(open_at(AT_FDCWD, path_, O_DIRECTORY | O_PATH)) {}

std::optional<Cgroup> Cgroup::of_self_if_available() {
  auto point = mount_point();
  auto place = own_place();
  if (!point || !place) return std::nullopt;
  std::string path = *point + (*place == "/" ? "" : *place);
  if (::access((path + "/cgroup.procs").c_str(), W_OK) != 0) return std::nullopt;
  return Cgroup(path);
}

Cgroup Cgroup::create_child(const std::string& name) const {
  check(::mkdirat(directory_.get(), name.c_str(), 0755), "mkdir({}/{})", path_, name);
  return Cgroup(path_ + "/" + name);
}

Cgroup Cgroup::open_child(const std::string& name) const {
  return Cgroup(path_ + "/" + name);
}

void Cgroup::write(const char* file, const std::string& text) const {
  Fd fd = open_at(directory_.get(), file, O_WRONLY);
  write_all(fd.get(), std::as_bytes(std::span(text)), fmt::format("{}/{}", path_, file).c_str());
}

void Cgroup::add(pid_t pid) const {
  write("cgroup.procs", std::to_string(pid));
}

std::vector<pid_t> Cgroup::processes() const {
  std::vector<pid_t> pids;
  std::string text = read_file(directory_.get(), "cgroup.procs");
  for (std::string_view rest = text; !rest.empty();) {
    pids.push_back(parse_number<pid_t>(take_until(rest, '\n'), "cgroup.procs"));
  }
  return pids;
}

void Cgroup::set_frozen(bool frozen) const {
  write("cgroup.freeze", frozen ? "1" : "0");
}

void Cgroup::kill_all() const {
  if (::faccessat(directory_.get(), "cgroup.kill", W_OK, 0) == 0) {
    write("cgroup.kill", "1");
    return;
  }
  for (pid_t pid : processes()) ::kill(pid, SIGKILL);
}

bool Cgroup::populated() const {
  return read_file(directory_.get(), "cgroup.events").find("populated 1") != std::string::npos;
}

bool Cgroup::remove_if_empty() const {
  if (::rmdir(path_.c_str()) == 0) return true;
  if (errno == EBUSY) return false;
  check(-1, "rmdir({})", path_);
  return false;
}

}  // namespace godwit::kernel
