#pragma once

#include <functional>
#include <vector>

#include "engine/restore/gate.h"
#include "engine/restore/live_task.h"
#include "engine/restore/plan.h"
#include "engine/restore/restore.h"

namespace godwit::restore {

// The coordinator of a restore. Its steps stand in the order of restore_tree().
class TreeBuilder {
 public:
  TreeBuilder(const RestoreRequest& request, Plan plan);
  TreeBuilder(const TreeBuilder&) = delete;
  TreeBuilder& operator=(const TreeBuilder&) = delete;
  // Ends the tree, unless it was released.
  ~TreeBuilder();

  void create_tasks();
  void set_groups();
  void build_memory();
  void register_lazy_memory();
  void install_files();
  void create_threads();
  void end_zombies();
  void restore_state();
  void set_registers();
  void release(bool stopped);
  void kill_all() noexcept;

  pid_t root() const { return plan_.tree.tasks.front().pid; }
  pb::restore_stats_entry statistics;

 private:
  void place_scratch(const std::vector<kernel::MapsEntry>& seed);
  void fork_task(size_t index);
  void fill_memory();
  void restore_state_of(const std::function<bool(size_t thread)>& wanted);
  void fork_threads(LiveTask& task);
  void end_zombie(LiveTask& zombie);
  std::vector<std::vector<tracee::Batch>> for_each_task(
      const std::function<std::vector<tracee::Batch>(LiveTask&)>& make);

  RestoreRequest request_;
  Plan plan_;
  Gate gate_;
  std::vector<LiveTask> tasks_;  // as in plan_.tree.tasks; zombies lose their threads when they have ended
  uint64_t scratch_ = 0, scratch_size_ = 0;
  bool released_ = false;
};

}  // namespace godwit::restore
