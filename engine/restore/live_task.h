#pragma once

#include <optional>
#include <vector>

#include "engine/tracee/remote_caller.h"
#include "engine/tracee/tracee.h"
#include "engine/tree/image_tree.h"

namespace godwit::restore {

// A task of the tree while it is rebuilt: the seed that becomes it, its threads once they exist, and the way
// to run batches in it.
struct LiveTask {
  const tree::ImageTask* image = nullptr;
  std::vector<tracee::Tracee> threads;  // the leader first
  std::optional<tracee::RemoteCaller> caller;

  tracee::Tracee& leader() { return threads.front(); }
  // Runs a batch in the leader; every call must succeed. `what` is for the error.
  tracee::BatchResults run(const tracee::Batch& batch, const char* what);
  // Puts the whole process into a group stop by SIGSTOP, without an instruction of it being run; it stays
  // there when it is detached. Its registers must be final.
  void enter_group_stop();
};

// Runs one batch after the other in each task, all tasks at the same time: batches[i] belongs to tasks[i].
void run_in_parallel(std::vector<LiveTask>& tasks, const std::vector<std::vector<tracee::Batch>>& batches,
                     const char* what);

}  // namespace godwit::restore
