#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>

#include "engine/base/fd.h"
#include "engine/kinds/file_kind.h"
#include "proto/images/fdinfo.pb.h"

// What regular files, directories, devices and the files that are held without a descriptor have in common:
// they come back by opening their path. Their entries are REG.
namespace godwit::files {

// A file as a dump finds it.
struct PathFile {
  std::string link;  // leads to the file itself: /proc/self/fd/9, /proc/42/exe
  std::string path;  // what it is called: the link's target
  struct stat status {};
  uint32_t flags = 0;  // O_* to open it with
};

// Why the path does not lead to this file: deleted, moved, replaced, or nothing that has a path. Empty when
// it does.
std::optional<std::string> why_path_is_lost(const PathFile& file);

// Fills everything but id, position and owner: path, flags, mode, and what a restore compares so as not to
// take a different file (size, build id).
void collect_path_file(const PathFile& file, pb::reg_file_entry& entry);

// What is missing or different on this machine.
void plan_path_file(const pb::reg_file_entry& entry, kinds::Problems& problems);

// The kinds of files whose entries are REG; they differ in what they recognise. At a restore any of them
// opens any such entry.
class PathFileKind : public kinds::FileKind {
 public:
  pb::fd_types type() const override { return pb::REG; }
  void collect(const kinds::OpenFile& file, const kinds::Policy& policy, pb::file_entry& entry,
               kinds::Problems& problems) override;
  void plan(const pb::file_entry& entry, const kinds::Policy&, kinds::Problems& problems) override;
  Fd open(const pb::file_entry& entry, const kinds::Policy& policy) override;
};

// Opens it with the recorded flags, never creating or truncating, and sets the position.
Fd open_path_file(const pb::reg_file_entry& entry);

}  // namespace godwit::files
