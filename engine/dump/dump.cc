#include "engine/dump/dump.h"

#include <algorithm>
#include <map>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "engine/base/fault_point.h"
#include "engine/base/stopwatch.h"
#include "engine/base/units.h"
#include "engine/dump/collect.h"
#include "engine/dump/steps.h"
#include "engine/tracee/remote_memory.h"

namespace godwit::dump {
namespace {

// Reads the memory of a tree that stays frozen.
class FrozenPages final : public kinds::PageSource {
 public:
  uint64_t read(kinds::PageImageId id, kinds::PageRange range, std::span<std::byte> buffer) override {
    if (id.type != kinds::PageImageId::Type::kTask) throw Error("there is no lazy shared memory");
    auto pid = static_cast<pid_t>(id.id);
    const auto& memory = memories_.try_emplace(pid, pid).first->second;
    auto wanted = buffer.first(std::min<size_t>(buffer.size(), range.pages * kPageSize));
    return memory.read_up_to(tracee::RemoteAddress{range.address}, wanted) / kPageSize;
  }

 private:
  std::map<pid_t, tracee::RemoteMemory> memories_;
};

std::vector<ProcessPages> find_pages(Collector& collector, memory::DirtyTracker& tracker) {
  std::vector<ProcessPages> pages;
  for (auto& process : collector.processes()) {
    if (process.zombie()) continue;
    pid_t pid = process.frozen->pid;
    pages.push_back({pid, memory::find_owned_pages(pid, process.mm, tracker, collector.caller(process),
                                                   process.frozen->leader())});
  }
  return pages;
}

// The collecting, shipping and writing of a tree that is frozen.
void write_images(tracee::FrozenTree& tree, const DumpRequest& request, pb::dump_stats_entry& statistics) {
  Collector collector(tree, request.policy);
  collector.look_from_outside();
  collector.ask_tasks();
  fault_point("dump-asked");
  auto pages = find_pages(collector, request.tracker);
  collector.cure();
  fault_point("dump-cured");
  ship(pages, {.lazy = request.lazy, .keep_zero_pages = request.more_rounds}, request.pages, statistics);
  collector.write(request.images);
  fault_point("dump-before-inventory");
  request.images.write_inventory(collector.inventory());
}

}  // namespace

DumpedTree::DumpedTree(tracee::FrozenTree tree, kinds::StageHooks& hooks, pb::dump_stats_entry stats)
    : statistics(std::move(stats)), tree_(std::move(tree)), hooks_(&hooks) {}

void DumpedTree::resume() {
  hooks_->run(kinds::Stage::kNetworkUnlock, tree_.root().pid);
  tree_.thaw();
}

void DumpedTree::leave_stopped() {
  tree_.thaw_stopped();
}

void DumpedTree::kill() {
  tree_.kill_all();
}

std::unique_ptr<kinds::PageSource> DumpedTree::page_source() const {
  return std::make_unique<FrozenPages>();
}

DumpedTree dump_tree(const DumpRequest& request) {
  request.hooks.run(kinds::Stage::kPreDump, request.root);
  Cleanup remove_images([&] { request.images.remove_created(); });
  pb::dump_stats_entry statistics;
  Stopwatch stopwatch;
  auto tree = freeze(request, statistics);
  request.hooks.run(kinds::Stage::kNetworkLock, request.root);
  try {
    write_images(tree, request, statistics);
    statistics.set_frozen_time(stopwatch.microseconds() - statistics.freezing_time());
    request.hooks.run(kinds::Stage::kPostDump, request.root);
  } catch (...) {
    request.hooks.run(kinds::Stage::kNetworkUnlock, request.root);
    throw;
  }
  remove_images.dismiss();
  return DumpedTree(std::move(tree), request.hooks, std::move(statistics));
}

}  // namespace godwit::dump
