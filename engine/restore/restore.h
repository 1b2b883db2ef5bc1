#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>

#include "engine/base/fd.h"
#include "engine/images/image_directory.h"
#include "engine/kinds/policy.h"
#include "engine/kinds/stage_hooks.h"
#include "proto/images/stats.pb.h"

namespace godwit::restore {

// What a restore works with. The references outlive the RestoredTree.
struct RestoreRequest {
  const images::ImageDirectory& images;
  kinds::StageHooks& hooks;
  kinds::Policy policy{};
  bool sibling = false;  // the root becomes our sibling, not our child
  // Post-copy: called once per task, before any task runs, with the userfaultfd that covers its pages yet to
  // come, or with an empty one when it has none. Not given: images with missing pages are refused.
  std::function<void(pid_t pid, Fd userfaultfd)> hand_over{};
  // The --pidfile: told as soon as the tree is complete, before it runs.
  std::function<void(pid_t root)> tree_is_complete{};
};

class TreeBuilder;

// A tree that is whole again but has not run yet. The destructor kills it, as does our death.
class RestoredTree {
 public:
  RestoredTree(RestoredTree&&) noexcept;
  RestoredTree& operator=(RestoredTree&&) noexcept;
  ~RestoredTree();

  pid_t root() const;
  // Lets all of it run, all or nothing; with `stopped` every process is left stopped by SIGSTOP
  // (--leave-stopped).
  void release(bool stopped = false);
  pb::restore_stats_entry statistics() const;

 private:
  friend RestoredTree restore_tree(const RestoreRequest& request);
  explicit RestoredTree(std::unique_ptr<TreeBuilder> builder);
  std::unique_ptr<TreeBuilder> builder_;
};

// Checks the images and this machine first, and throws RefusedError with everything that stands in the way
// before any process exists; then rebuilds the tree.
RestoredTree restore_tree(const RestoreRequest& request);

}  // namespace godwit::restore
