#pragma once

#include <memory>
#include <vector>

#include "engine/files/file_collector.h"
#include "engine/images/image_directory.h"
#include "engine/kinds/problems.h"
#include "engine/task/task_part.h"
#include "engine/tracee/freeze.h"
#include "engine/tracee/remote_caller.h"
#include "proto/images/core.pb.h"
#include "proto/images/file_data.pb.h"
#include "proto/images/inventory.pb.h"
#include "proto/images/mm.pb.h"

namespace godwit::dump {

// What a dump knows of one frozen process; a zombie has only a core.
struct CollectedProcess {
  tracee::FrozenProcess* frozen = nullptr;
  kernel::TaskStat stat;
  uint32_t number = 0;                // its ids in the images: memory, files, fs and handlers are its own
  std::vector<pb::core_entry> cores;  // one a thread, the leader's first
  pb::mm_entry mm;
  pb::fs_entry fs;

  bool zombie() const { return frozen->state == tracee::ProcessState::kZombie; }
};

// The inventory of a tree of so many processes.
pb::inventory_entry make_inventory(size_t processes, const kinds::Policy& policy);

// Collects the small state of a frozen tree, in two passes: from outside, which decides whether the tree can
// be dumped at all, and by remote batches, all processes and threads at the same time.
class Collector {
 public:
  Collector(tracee::FrozenTree& tree, const kinds::Policy& policy);

  // Everything that /proc, ptrace and duplicated descriptors tell. Throws RefusedError with every reason why
  // the tree cannot be dumped. Nothing in any task is changed.
  void look_from_outside();
  // What only the tasks can tell. Afterwards callers() stay open in them until cure().
  void ask_tasks();
  // Takes the scratch out of all tasks; they stay frozen.
  void cure();
  // All small images but the inventory.
  void write(images::ImageDirectory& images);
  pb::inventory_entry inventory() const { return make_inventory(processes_.size(), policy_); }

  std::vector<CollectedProcess>& processes() { return processes_; }
  tracee::RemoteCaller& caller(const CollectedProcess& process) { return *callers_[process.number - 1]; }

 private:
  kinds::Problems& problems() { return files_.problems(); }
  struct Question;
  Question prepare(CollectedProcess& process, size_t index);
  void look_at(CollectedProcess& process);
  void refuse_foreign_namespaces(const CollectedProcess& process);
  void refuse_shared_tables();
  void check_sessions();
  pb::pstree_entry pstree_entry(const CollectedProcess& process) const;

  tracee::FrozenTree& tree_;
  kinds::Policy policy_;
  files::FileCollector files_;
  std::vector<std::unique_ptr<task::TaskPart>> parts_;
  std::vector<CollectedProcess> processes_;
  std::vector<std::unique_ptr<tracee::RemoteCaller>> callers_;
};

}  // namespace godwit::dump
