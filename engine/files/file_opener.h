#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/base/fd.h"
#include "engine/images/image_directory.h"
#include "engine/kinds/file_kind.h"
#include "engine/tracee/batch.h"
#include "proto/images/fdinfo.pb.h"

namespace godwit::files {

// Restore side: reads what a FileCollector (or CRIU, old or new) wrote, opens every description once in this
// process, and builds the batches by which tasks fetch their descriptors from here with pidfd_getfd(2).
//
//   FileOpener files(kinds, policy, images, {1, 2});   // reads, checks the images
//   files.plan(problems);                              // checks this machine
//   files.open_all();
//   for (Batch& batch : files.install_batches(1)) caller.run(task, batch).check_all("descriptors");
//   files.add_finish_calls(1, batch);                  // when every task has its descriptors
class FileOpener {
 public:
  // `files_ids` are the descriptor tables of the tree, root first. Throws FormatError for images that are not
  // what they must be. Raises our soft RLIMIT_NOFILE to the hard one: do it before the first task is created,
  // as tasks inherit it and need it until they have their descriptors.
  FileOpener(kinds::FileKinds kinds, const kinds::Policy& policy, const images::ImageDirectory& images,
             const std::vector<uint32_t>& files_ids);

  // Adds what stands in the way of opening any of the files here. Once, before anything is opened: kinds
  // count what will be opened.
  void plan(kinds::Problems& problems);

  // Our descriptor of this file: opened at the first call, kept until this object is gone. FormatError for an
  // id that the images do not have.
  int open(uint32_t id);
  // Opens every file that a descriptor of the tree refers to.
  void open_all();
  // The path of a regular file, directory or device as the dump saw it. FormatError for any other id.
  const std::string& path_of(uint32_t id) const;
  const pb::file_entry& entry(uint32_t id) const;

  // The calls that fill the EMPTY descriptor table of a task, to be run in this order with nothing between
  // that opens or closes descriptors; none for an empty table. All calls must succeed. The task must see us
  // in its pid namespace, be allowed to ptrace us, and still have our RLIMIT_NOFILE. A batch has at most
  // `max_calls` calls or few more.
  std::vector<tracee::Batch> install_batches(uint32_t files_id, size_t max_calls = 512);
  // What only a task that holds a file can do (epoll registrations), for the files whose chosen holder is
  // this table; and signal owners, which we set ourselves at this call. To be called when every task of the
  // tree exists and has its descriptors.
  void add_finish_calls(uint32_t files_id, tracee::Batch& batch);

  // For files that a task needs for a moment only (to map, to fchdir): our pidfd in the task, and with it a
  // descriptor of a file. Both are temporaries that the caller closes with later calls of the batch.
  static tracee::Batch::Result add_coordinator(tracee::Batch& batch);
  tracee::Batch::Result add_get(tracee::Batch& batch, tracee::Batch::Argument coordinator, uint32_t id);

 private:
  using Table = std::vector<pb::fdinfo_entry>;
  kinds::FileKind* kind_of(const pb::file_entry& entry) const;
  void check_tables(kinds::Problems& problems) const;
  void choose_holders(const std::vector<uint32_t>& files_ids);
  const Table& table(uint32_t files_id) const;

  struct Holder {
    uint32_t files_id = 0;
    int number = -1;
  };
  kinds::FileKinds kinds_;
  kinds::Policy policy_;
  std::map<uint32_t, pb::file_entry> entries_;
  std::map<uint32_t, Table> tables_;
  std::map<uint32_t, Holder> holders_;  // by file id
  std::map<uint32_t, Fd> open_;
};

}  // namespace godwit::files
