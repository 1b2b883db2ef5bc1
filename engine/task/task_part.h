#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>

#include "engine/images/image_directory.h"
#include "engine/kernel/proc_task.h"
#include "engine/kinds/problems.h"
#include "engine/tracee/batch.h"
#include "engine/tracee/tracee.h"
#include "proto/images/core.pb.h"

namespace godwit::task {

// A frozen thread as a dump sees it.
struct ThreadFacts {
  tracee::Tracee& tracee;
  bool leader = false;  // its process's state is collected with it
  kernel::TaskStat stat;
  kernel::TaskStatus status;
};

// A thread as the images describe it.
struct ThreadImage {
  pid_t pid = 0, tid = 0;
  bool leader = false;
  const pb::core_entry& core;
};

// Puts what the thread answered into its core.
using Answer = std::function<void(const tracee::BatchResults&, pb::core_entry&)>;

// One part of the state of a thread or process: how it is asked for, written, read and given back. One object
// lives for one dump or one restore. To add a part: its file, a line in tree/registry.cc, its tests.
class TaskPart {
 public:
  TaskPart() = default;
  TaskPart(const TaskPart&) = delete;
  TaskPart& operator=(const TaskPart&) = delete;
  virtual ~TaskPart() = default;

  // Dump. Adds to the thread's batch what only the thread itself can tell, and returns what to do with the
  // answer. What can be read from outside is put into the core at once. What cannot come back goes to
  // `problems`. Changes nothing in the thread.
  virtual Answer ask(const ThreadFacts& thread, tracee::Batch& batch, pb::core_entry& core,
                     kinds::Problems& problems) = 0;
  virtual void write_images([[maybe_unused]] images::ImageDirectory& images) {}

  // Restore. Called once before the others.
  virtual void read_images([[maybe_unused]] const images::ImageDirectory& images) {}
  // What this machine cannot give back goes to `problems`.
  virtual void plan([[maybe_unused]] const ThreadImage& thread, [[maybe_unused]] kinds::Problems& problems) {}
  // Adds the calls by which the thread takes the state on. Each must succeed unless it is marked otherwise.
  virtual void restore(const ThreadImage& thread, tracee::Batch& batch) = 0;
};

}  // namespace godwit::task
