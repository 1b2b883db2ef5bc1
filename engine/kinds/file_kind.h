#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/fd.h"
#include "engine/images/image_directory.h"
#include "engine/kinds/policy.h"
#include "engine/kinds/problems.h"
#include "engine/tracee/batch.h"
#include "proto/images/fdinfo.pb.h"

namespace godwit::kinds {

// One open file description of a frozen tree, seen through one of the descriptors that refer to it.
struct OpenFile {
  pid_t pid = 0;    // a process that holds it
  int number = -1;  // its descriptor there
  uint32_t id = 0;  // the id it gets in the images
  Fd duplicate;     // ours, by pidfd_getfd(2): the same description, so never change its flags or position
  struct stat status {};
  std::string target;     // /proc/PID/fd/N: "/srv/x", "pipe:[12]", "anon_inode:[eventpoll]"
  std::string info;       // /proc/PID/fdinfo/N
  uint64_t position = 0;  // from fdinfo
  uint32_t flags = 0;     // O_*, from fdinfo, without O_CLOEXEC
  int mount_id = -1;      // from fdinfo
  // Makes one more entry of files.img, with an id of its own: for kinds that keep a path in one (terminals).
  // Such an entry is opened by its kind only.
  std::function<pb::file_entry&(pb::fd_types type)> add_entry;
};

// Everything that is known about one kind of open file: how it is recognised, collected, written, read,
// restored. One object lives for one dump or one restore and keeps what that needs (the pipes already opened,
// ...). To add a kind: its file, a line in tree/registry.cc, its tests.
class FileKind {
 public:
  FileKind() = default;
  FileKind(const FileKind&) = delete;
  FileKind& operator=(const FileKind&) = delete;
  virtual ~FileKind() = default;

  // The number of the kind in fdinfo and files images.
  virtual pb::fd_types type() const = 0;

  // Dump. Whether this open file is of the kind; the first kind of the registry that says so gets it.
  virtual bool recognises(const OpenFile& file) const = 0;
  // Reads the facts into `entry` (type and id are set already). Changes nothing in the task or the file. What
  // cannot come back goes to `problems`, naming the object and what the user can do.
  virtual void collect(const OpenFile& file, const Policy& policy, pb::file_entry& entry,
                       Problems& problems) = 0;
  // After every file of the tree is collected: problems that need the whole (a pipe whose other end is
  // outside).
  virtual void check_whole([[maybe_unused]] Problems& problems) {}
  // Writes images beside files.img (pipes-data.img, ...).
  virtual void write_images([[maybe_unused]] images::ImageDirectory& images) {}

  // Restore. Reads the kind's own images; called once, before any other restore function.
  virtual void read_images([[maybe_unused]] const images::ImageDirectory& images) {}
  // Checks an entry against this machine: what is missing, in use or different goes to `problems`.
  virtual void plan([[maybe_unused]] const pb::file_entry& entry, [[maybe_unused]] const Policy& policy,
                    [[maybe_unused]] Problems& problems) {}
  // Opens it, in the coordinator, exactly once per entry. Position, flags, owner and contents are set on the
  // way.
  virtual Fd open(const pb::file_entry& entry, const Policy& policy) = 0;
  // The descriptors that the task of finish_in_task must have beside the file's own; a holder that has them
  // all is chosen.
  virtual std::vector<int> numbers_needed([[maybe_unused]] const pb::file_entry& entry) const { return {}; }
  // Adds what only a task that holds it can do, when every task has all its descriptors (epoll
  // registrations): `number` is its descriptor in that task. Called for one holder of each entry.
  virtual void finish_in_task([[maybe_unused]] const pb::file_entry& entry, [[maybe_unused]] int number,
                              [[maybe_unused]] tracee::Batch& batch) {}
};

// The kinds that a dump or a restore knows, in the order in which they are asked.
using FileKinds = std::vector<std::unique_ptr<FileKind>>;

}  // namespace godwit::kinds
