#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include "engine/images/image_directory.h"
#include "engine/kinds/page_sink.h"
#include "engine/kinds/page_source.h"
#include "engine/kinds/policy.h"
#include "engine/kinds/stage_hooks.h"
#include "engine/memory/dirty_tracker.h"
#include "engine/memory/page_shipping.h"
#include "engine/tracee/freeze.h"
#include "proto/images/stats.pb.h"

namespace godwit::dump {

// What a dump or a pre-dump works with. The references outlive it.
struct DumpRequest {
  pid_t root = 0;
  images::ImageDirectory& images;
  kinds::PageSink& pages;
  memory::DirtyTracker& tracker;
  kinds::StageHooks& hooks;
  kinds::Policy policy{};
  bool lazy = false;                           // announce pages that post-copy may bring, and write the rest
  bool more_rounds = false;                    // this dump may be the parent of a next one
  std::chrono::milliseconds freeze_timeout{};  // 0: no limit
};

// A tree whose images are complete, still frozen. Whoever holds it decides what becomes of the tasks; the
// destructor lets them run on.
class DumpedTree {
 public:
  DumpedTree(tracee::FrozenTree tree, kinds::StageHooks& hooks, pb::dump_stats_entry stats);
  DumpedTree(DumpedTree&&) noexcept = default;

  // Lets the tasks run on (--leave-running, a rolled back migration).
  void resume();
  void leave_stopped();
  // Ends the tasks: the images are the workload now.
  void kill();

  // Serves the memory of the frozen tasks, for post-copy; valid until the tree is resumed or killed.
  std::unique_ptr<kinds::PageSource> page_source() const;

  // How long each step took, and what was written; frozen_time runs until the images were complete.
  pb::dump_stats_entry statistics;

 private:
  tracee::FrozenTree tree_;
  kinds::StageHooks* hooks_;
};

// Freezes the tree, collects it, ships its memory and writes every image, the inventory last. When anything
// fails the tasks run on, the files that were written are removed, and the error is thrown.
DumpedTree dump_tree(const DumpRequest& request);

// How many bytes of memory of its own each process of a tree has now, parents first: what a dump will about
// write.
std::vector<uint64_t> estimate_memory(pid_t root);

// One round of an iterative migration: freezes the tree only to find what was written since the round before,
// and ships those pages while it runs. The images hold pages and an inventory, no tasks.
pb::dump_stats_entry pre_dump_tree(const DumpRequest& request);

}  // namespace godwit::dump
