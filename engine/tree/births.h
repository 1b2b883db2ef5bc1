#pragma once

#include <sys/types.h>

#include <optional>
#include <vector>

#include "engine/kinds/problems.h"
#include "engine/tree/image_tree.h"

namespace godwit::tree {

// One step of the rebirth of a tree. A task can leave its session only by founding its own (setsid), and is
// born in the one its parent is in at that moment; so the order of forks and setsids is what gives every task
// its session.
struct BirthStep {
  enum class Kind { kFork, kSetsid };
  Kind kind;
  size_t task;  // index in ImageTree::tasks: who is born, or who founds a session
  bool operator==(const BirthStep&) const = default;
};

// The steps in order; the root exists already. With `shell_job` the root's session is the one criu is in.
// Sessions and groups that cannot be made go to `problems`.
std::vector<BirthStep> plan_births(const ImageTree& tree, bool shell_job, kinds::Problems& problems);

// A task's process group: members come after the leader that makes the group.
struct GroupStep {
  size_t task;
  pid_t pgid;
  bool operator==(const GroupStep&) const = default;
};
std::vector<GroupStep> plan_groups(const ImageTree& tree, bool shell_job, kinds::Problems& problems);

}  // namespace godwit::tree
