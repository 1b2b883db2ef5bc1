#include <fcntl.h>

#include "engine/base/cleanup.h"
#include "engine/base/fd.h"
#include "engine/base/stopwatch.h"
#include "engine/dump/collect.h"
#include "engine/dump/dump.h"
#include "engine/dump/steps.h"
#include "engine/kernel/proc_maps.h"
#include "engine/memory/vma.h"

namespace godwit::dump {
namespace {

// The areas of a process, from maps: smaps would walk every page table within the freeze. What cannot be
// dumped is left for the final dump to refuse.
pb::mm_entry list_areas(pid_t pid) {
  pb::mm_entry mm;
  kinds::Problems ignored;
  tracee::RemoteMemory memory(pid);
  for (const auto& map : kernel::parse_maps(read_file(AT_FDCWD, fmt::format("/proc/{}/maps", pid)))) {
    if (!tracee::is_scratch(memory, map)) *mm.add_vmas() = memory::classify(map, ignored);
  }
  return mm;
}

std::vector<ProcessPages> find_pages(tracee::FrozenTree& tree, memory::DirtyTracker& tracker) {
  std::vector<ProcessPages> pages;
  for (auto& process : tree.processes()) {
    if (process.state == tracee::ProcessState::kZombie) continue;
    pb::mm_entry mm = list_areas(process.pid);
    auto caller = tracee::RemoteCaller::for_running(process.threads);
    pages.push_back(
        {process.pid, memory::find_owned_pages(process.pid, mm, tracker, caller, process.leader())});
    caller.cure();
  }
  return pages;
}

}  // namespace

pb::dump_stats_entry pre_dump_tree(const DumpRequest& request) {
  Cleanup remove_images([&] { request.images.remove_created(); });
  pb::dump_stats_entry statistics;
  std::vector<ProcessPages> pages;
  pb::inventory_entry inventory;
  Stopwatch stopwatch;
  {
    auto tree = freeze(request, statistics);
    pages = find_pages(tree, request.tracker);
    inventory = make_inventory(tree.processes().size(), request.policy);
    tree.thaw();
    statistics.set_frozen_time(stopwatch.microseconds() - statistics.freezing_time());
  }
  ship(pages, {.frozen = false, .keep_zero_pages = true}, request.pages, statistics);
  request.images.write_inventory(inventory);
  remove_images.dismiss();
  return statistics;
}

}  // namespace godwit::dump
