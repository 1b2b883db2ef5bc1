#include "engine/dump/steps.h"

#include "engine/base/fault_point.h"
#include "engine/base/log.h"
#include "engine/base/stopwatch.h"

namespace godwit::dump {

tracee::FrozenTree freeze(const DumpRequest& request, pb::dump_stats_entry& statistics) {
  Stopwatch stopwatch;
  auto tree = tracee::freeze_tree(request.root, {.timeout = request.freeze_timeout});
  statistics.set_freezing_time(stopwatch.microseconds());
  log::info("froze {} processes in {} us", tree.processes().size(), statistics.freezing_time());
  fault_point("dump-frozen");
  return tree;
}

void ship(const std::vector<ProcessPages>& pages, const memory::Shipping& shipping, kinds::PageSink& sink,
          pb::dump_stats_entry& statistics) {
  Stopwatch stopwatch;
  memory::PageCounts counts;
  for (const auto& process : pages) counts += memory::ship_pages(process.pid, process.areas, shipping, sink);
  statistics.set_memdump_time(stopwatch.microseconds());
  Stopwatch finishing;
  sink.finish();
  statistics.set_memwrite_time(finishing.microseconds());
  statistics.set_pages_scanned(counts.scanned);
  statistics.set_pages_skipped_parent(counts.in_parent);
  statistics.set_pages_written(counts.written);
  statistics.set_pages_lazy(counts.lazy);
  log::info("shipped {} pages, {} in the parent, {} left for later, {} zero", counts.written,
            counts.in_parent, counts.lazy, counts.zero);
  fault_point("dump-pages-shipped");
}

}  // namespace godwit::dump
