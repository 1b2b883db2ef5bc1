#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "engine/files/description_set.h"
#include "engine/images/image_directory.h"
#include "engine/kinds/file_kind.h"
#include "proto/images/fdinfo.pb.h"

namespace godwit::files {

// Dump side: every open file description of a frozen tree, once each, with the descriptors that refer to it,
// and the files that are held otherwise (executable, cwd, root, mapped files). Changes nothing in the tasks
// or files.
class FileCollector {
 public:
  FileCollector(kinds::FileKinds kinds, const kinds::Policy& policy);

  // Collects the descriptor table of a frozen process. Tasks that share a table (CLONE_FILES) are collected
  // once: `files_id` names the table in the images. Call it root task first and in tree order: an epoll's
  // registrations are taken over in the first process that holds it. What cannot be dumped goes to
  // problems(); throws Error when the process cannot be looked at.
  void collect_process(pid_t pid, uint32_t files_id);

  // The id of a file that is held without a descriptor: `link` is /proc/PID/exe, cwd, root or map_files/A-B
  // (or /proc/self/fd/N for one that we hold), `flags` are the O_* with which a restore shall open it. Equal
  // file, path and flags give an equal id. What cannot be dumped goes to problems(); an id is returned all
  // the same.
  uint32_t add_path_file(const std::string& link, uint32_t flags);

  // After the last collect and add: what only the whole shows, such as a pipe that leads out of the tree.
  void check_whole();
  const kinds::Problems& problems() const { return problems_; }
  kinds::Problems& problems() { return problems_; }

  // Writes files.img, fdinfo-FILES_ID.img and the images of the kinds.
  void write(images::ImageDirectory& images);

 private:
  using PathKey = std::tuple<dev_t, ino_t, std::string, uint32_t>;
  void collect_descriptor(pid_t pid, int pidfd, int number, std::vector<pb::fdinfo_entry>& table);
  void collect_description(const kinds::OpenFile& file);
  pb::file_entry& add_entry(uint32_t id, pb::fd_types type);

  kinds::FileKinds kinds_;
  kinds::Policy policy_;
  kinds::Problems problems_;
  DescriptionSet descriptions_;
  uint32_t last_id_ = 0;
  std::map<uint32_t, pb::file_entry> files_;
  std::map<PathKey, uint32_t> path_files_;
  std::map<uint32_t, std::vector<pb::fdinfo_entry>> tables_;
};

}  // namespace godwit::files
