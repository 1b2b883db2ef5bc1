#include "engine/tree/births.h"

#include <set>

namespace godwit::tree {
namespace {

class BirthPlanner {
 public:
  BirthPlanner(const ImageTree& tree, kinds::Problems& problems)
      : tasks_(tree.tasks), problems_(problems), children_(tasks_.size()), needs_(tasks_.size()) {
    for (size_t i = 1; i < tasks_.size(); ++i) children_[tasks_[i].parent].push_back(i);
    // Children stand after their parents, so walking backwards knows the children's needs first.
    for (size_t i = tasks_.size(); i-- > 0;) needs_[i] = session_needed_at_birth(i);
  }

  // `session` is the one the task was born in.
  void plan(size_t index, pid_t session) {
    const ImageTask& task = tasks_[index];
    if (task.sid == task.pid) {
      fork_children(
          index, [&](size_t child) { return needs_[child] == session; }, session);
      steps_.push_back({BirthStep::Kind::kSetsid, index});
    }
    bool leads = task.sid == task.pid;
    fork_children(
        index, [&](size_t child) { return !leads || needs_[child] != session; }, task.sid);
  }

  std::vector<BirthStep> take_steps() { return std::move(steps_); }

 private:
  // The session a task must be born into: its own sid, or, when it founds one, what the children that it has
  // to fork before that need. Empty: any will do.
  std::optional<pid_t> session_needed_at_birth(size_t index) {
    const ImageTask& task = tasks_[index];
    if (task.sid != task.pid) return task.sid;
    std::optional<pid_t> needed;
    for (size_t child : children_[index]) {
      if (!needs_[child] || *needs_[child] == task.pid) continue;
      if (needed && needed != needs_[child]) {
        problems_.add("pid {}: its children are in sessions {} and {}, which nothing in the tree leads",
                      task.pid, *needed, *needs_[child]);
      }
      needed = needs_[child];
    }
    return needed;
  }

  template <class Wanted>
  void fork_children(size_t index, Wanted wanted, pid_t session) {
    for (size_t child : children_[index]) {
      if (!wanted(child)) continue;
      if (needs_[child] && *needs_[child] != session) {
        problems_.add("pid {} is in session {}, whose leader is gone: not available yet", tasks_[child].pid,
                      tasks_[child].sid);
      }
      steps_.push_back({BirthStep::Kind::kFork, child});
      plan(child, session);
    }
  }

  const std::vector<ImageTask>& tasks_;
  kinds::Problems& problems_;
  std::vector<std::vector<size_t>> children_;
  std::vector<std::optional<pid_t>> needs_;
  std::vector<BirthStep> steps_;
};

}  // namespace

std::vector<BirthStep> plan_births(const ImageTree& tree, bool shell_job, kinds::Problems& problems) {
  const ImageTask& root = tree.tasks.front();
  if (root.sid != root.pid && !shell_job) {
    problems.add("the root task {} is in session {}, which stays outside: use --shell-job (-j)", root.pid,
                 root.sid);
    return {};
  }
  BirthPlanner planner(tree, problems);
  planner.plan(0, root.sid == root.pid ? 0 : root.sid);
  return planner.take_steps();
}

std::vector<GroupStep> plan_groups(const ImageTree& tree, bool shell_job, kinds::Problems& problems) {
  std::set<pid_t> led;
  std::vector<GroupStep> leaders, members;
  for (size_t i = 0; i < tree.tasks.size(); ++i) {
    const ImageTask& task = tree.tasks[i];
    if (task.pgid != task.pid) continue;
    led.insert(task.pgid);
    // A session's leader has led its group since setsid.
    if (task.sid != task.pid) leaders.push_back({i, task.pgid});
  }
  pid_t root_group = tree.tasks.front().pgid;
  for (size_t i = 0; i < tree.tasks.size(); ++i) {
    const ImageTask& task = tree.tasks[i];
    if (task.pgid == task.pid) continue;
    if (led.contains(task.pgid)) {
      members.push_back({i, task.pgid});
    } else if (!shell_job || task.pgid != root_group) {
      problems.add("pid {} is in process group {}, whose leader is gone: not available yet", task.pid,
                   task.pgid);
    }
  }
  leaders.insert(leaders.end(), members.begin(), members.end());
  return leaders;
}

}  // namespace godwit::tree
