#include "engine/files/path_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>

#include "engine/base/error.h"
#include "engine/files/build_id.h"
#include "engine/files/description_state.h"

namespace godwit::files {
namespace {

constexpr std::string_view kDeletedSuffix = " (deleted)";
// CRIU's mark for a file without a position.
constexpr uint64_t kNoPosition = UINT64_MAX;

// What the path leads to; the file itself where the path was opened as a symbolic link.
std::optional<struct stat> status_if_exists(const std::string& path, uint32_t flags) {
  struct stat status {};
  bool is_link = (flags & O_PATH) && (flags & O_NOFOLLOW);
  int result = is_link ? ::lstat(path.c_str(), &status) : ::stat(path.c_str(), &status);
  if (result < 0 && (errno == ENOENT || errno == ENOTDIR)) return std::nullopt;
  check(result, "stat({})", path);
  return status;
}

// /proc/42/maps exists only as long as pid 42 does, and a restore opens files before it makes tasks.
bool is_file_of_a_process(const PathFile& file) {
  if (!file.path.starts_with("/proc/") || file.path.size() < 7) return false;
  struct statfs system {};
  if (::statfs(file.link.c_str(), &system) < 0 || system.f_type != PROC_SUPER_MAGIC) return false;
  return file.path[6] >= '0' && file.path[6] <= '9';
}

// A log that is only appended to is expected to differ.
bool size_matters(uint32_t flags) {
  return (flags & O_ACCMODE) != O_WRONLY || !(flags & O_APPEND);
}

const char* type_name(mode_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return "regular file";
    case S_IFDIR:
      return "directory";
    case S_IFCHR:
      return "character device";
    case S_IFLNK:
      return "symbolic link";
    default:
      return "file of another type";
  }
}

void plan_mode(const pb::reg_file_entry& entry, mode_t mode, kinds::Problems& problems) {
  if (!entry.has_mode() || entry.mode() == mode) return;
  if ((entry.mode() & S_IFMT) != (mode & S_IFMT)) {
    problems.add("{}: is a {} here and was a {} at the dump", entry.name(), type_name(mode),
                 type_name(entry.mode()));
  } else {
    problems.add("{}: has mode {:04o} here and had {:04o} at the dump", entry.name(), mode & 07777,
                 entry.mode() & 07777);
  }
}

void plan_contents(const pb::reg_file_entry& entry, const struct stat& status, kinds::Problems& problems) {
  if (!entry.has_size()) return;
  if (entry.size() != static_cast<uint64_t>(status.st_size)) {
    problems.add("{}: has {} bytes here and had {} at the dump", entry.name(), status.st_size, entry.size());
    return;
  }
  if (entry.build_id().empty()) return;
  auto id = read_build_id(open_at(AT_FDCWD, entry.name(), O_RDONLY | O_NOCTTY).get());
  if (!id.empty() && !std::equal(id.begin(), id.end(), entry.build_id().begin(), entry.build_id().end())) {
    problems.add("{}: has another build id here than at the dump: install the same version", entry.name());
  }
}

}  // namespace

std::optional<std::string> why_path_is_lost(const PathFile& file) {
  if (file.status.st_nlink == 0) return "deleted files: ghost files are not available yet";
  if (!file.path.starts_with('/')) return "has no path";
  if (is_file_of_a_process(file)) return "files of a process in /proc cannot be dumped yet";
  auto now = status_if_exists(file.path, file.flags);
  if (!now) {
    return file.path.ends_with(kDeletedSuffix)
               ? "this name was deleted and the file has another: link remaps are not available yet"
               : "the path does not lead to it, seen from here (another mount namespace?)";
  }
  if (now->st_dev != file.status.st_dev || now->st_ino != file.status.st_ino) {
    return "another file has this path now";
  }
  return std::nullopt;
}

void collect_path_file(const PathFile& file, pb::reg_file_entry& entry) {
  entry.set_name(file.path);
  entry.set_flags(file.flags);
  entry.set_mode(file.status.st_mode);
  if (!S_ISREG(file.status.st_mode) || !size_matters(file.flags)) return;
  entry.set_size(static_cast<uint64_t>(file.status.st_size));
  // A file without read permission for us is compared by its size only.
  if (::access(file.link.c_str(), R_OK) != 0) return;
  for (uint32_t word : read_build_id(open_at(AT_FDCWD, file.link, O_RDONLY | O_NOCTTY).get())) {
    entry.add_build_id(word);
  }
}

void plan_path_file(const pb::reg_file_entry& entry, kinds::Problems& problems) {
  if (entry.ext()) {
    problems.add("{}: external files: --external is not available yet", entry.name());
    return;
  }
  auto status = status_if_exists(entry.name(), entry.flags());
  if (!status) {
    problems.add("{}: does not exist here", entry.name());
    return;
  }
  plan_mode(entry, status->st_mode, problems);
  plan_contents(entry, *status, problems);
}

Fd open_path_file(const pb::reg_file_entry& entry) {
  // Flags that act once, when a program opens a file, must not act again; a terminal is none of ours.
  uint32_t flags = entry.flags() & ~static_cast<uint32_t>(O_CREAT | O_EXCL | O_TRUNC);
  Fd fd = open_at(AT_FDCWD, entry.name(), static_cast<int>(flags | O_NOCTTY));
  if ((flags & O_PATH) || S_ISCHR(entry.mode())) return fd;
  if (entry.pos() != 0 && entry.pos() != kNoPosition) {
    check(::lseek(fd.get(), static_cast<off_t>(entry.pos()), SEEK_SET), "lseek({}, {})", entry.name(),
          entry.pos());
  }
  if (flags & O_ASYNC) set_status_flags(fd.get(), flags);
  return fd;
}

void PathFileKind::collect(const kinds::OpenFile& file, const kinds::Policy&, pb::file_entry& entry,
                           kinds::Problems& problems) {
  PathFile path{.link = fmt::format("/proc/self/fd/{}", file.duplicate.get()),
                .path = file.target,
                .status = file.status,
                .flags = file.flags};
  if (auto why = why_path_is_lost(path)) {
    problems.add("{}: {}", place_of(file), *why);
    return;
  }
  pb::reg_file_entry& reg = *entry.mutable_reg();
  reg.set_id(entry.id());
  reg.set_pos(file.position);
  *reg.mutable_fown() = collect_owner(file);
  collect_path_file(path, reg);
}

void PathFileKind::plan(const pb::file_entry& entry, const kinds::Policy&, kinds::Problems& problems) {
  plan_path_file(entry.reg(), problems);
}

Fd PathFileKind::open(const pb::file_entry& entry, const kinds::Policy&) {
  return open_path_file(entry.reg());
}

}  // namespace godwit::files
