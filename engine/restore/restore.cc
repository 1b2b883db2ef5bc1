#include "engine/restore/restore.h"

#include "engine/base/stopwatch.h"
#include "engine/restore/plan.h"
#include "engine/restore/tree_builder.h"

namespace godwit::restore {

RestoredTree::RestoredTree(std::unique_ptr<TreeBuilder> builder) : builder_(std::move(builder)) {}
RestoredTree::RestoredTree(RestoredTree&&) noexcept = default;
RestoredTree& RestoredTree::operator=(RestoredTree&&) noexcept = default;
RestoredTree::~RestoredTree() = default;
pid_t RestoredTree::root() const {
  return builder_->root();
}
void RestoredTree::release(bool stopped) {
  builder_->release(stopped);
}
pb::restore_stats_entry RestoredTree::statistics() const {
  return builder_->statistics;
}

RestoredTree restore_tree(const RestoreRequest& request) {
  Stopwatch stopwatch;
  auto builder = std::make_unique<TreeBuilder>(request, make_plan(request));
  request.hooks.run(kinds::Stage::kPreRestore, 0);
  builder->create_tasks();
  request.hooks.run(kinds::Stage::kSetupNamespaces, builder->root());
  request.hooks.run(kinds::Stage::kPostSetupNamespaces, builder->root());
  builder->set_groups();
  builder->build_memory();
  builder->register_lazy_memory();
  builder->install_files();
  builder->create_threads();
  builder->end_zombies();
  builder->restore_state();
  builder->set_registers();
  if (request.tree_is_complete) request.tree_is_complete(builder->root());
  request.hooks.run(kinds::Stage::kPostRestore, builder->root());
  builder->statistics.set_restore_time(stopwatch.microseconds());
  builder->statistics.set_pages_compared(0);
  builder->statistics.set_pages_skipped_cow(0);
  return RestoredTree(std::move(builder));
}

}  // namespace godwit::restore
