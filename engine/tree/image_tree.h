#pragma once

#include <sys/types.h>

#include <optional>
#include <vector>

#include "engine/images/image_directory.h"
#include "proto/images/core.pb.h"
#include "proto/images/file_data.pb.h"
#include "proto/images/inventory.pb.h"
#include "proto/images/mm.pb.h"

namespace godwit::tree {

// task_core_entry.task_state.
enum TaskState : uint32_t { kTaskAlive = 1, kTaskZombie = 2, kTaskStopped = 3 };

struct ImageThread {
  pid_t tid = 0;
  pb::core_entry core;
};

// One process as the images describe it.
struct ImageTask {
  pid_t pid = 0, ppid = 0, pgid = 0, sid = 0;
  size_t parent = 0;                 // index in ImageTree::tasks; its own for the root
  std::vector<ImageThread> threads;  // the leader first; for a zombie only the leader
  // A zombie has none of the following.
  pb::task_kobj_ids_entry ids;
  pb::mm_entry mm;
  pb::fs_entry fs;

  const pb::core_entry& core() const { return threads.front().core; }
  bool zombie() const { return core().tc().task_state() == kTaskZombie; }
  bool stopped() const { return core().tc().task_state() == kTaskStopped; }
};

// A whole dump, read and checked for its structure: every reference between the small images resolves,
// numbers are within bounds, no id stands twice. Pages and files are read by their own layers.
struct ImageTree {
  pb::inventory_entry inventory;
  std::vector<ImageTask> tasks;  // parents before their children; the root first
};

// Throws FormatError that names the file and the field, RefusedError for what this engine does not restore
// yet.
ImageTree read_tree(const images::ImageDirectory& directory);

}  // namespace godwit::tree
