#pragma once

#include <vector>

#include "engine/dump/dump.h"
#include "engine/memory/page_shipping.h"

// Steps that a dump and a pre-dump share.
namespace godwit::dump {

// Freezes the request's tree and notes in the statistics how long that took.
tracee::FrozenTree freeze(const DumpRequest& request, pb::dump_stats_entry& statistics);

// The pages that one process of the tree owns.
struct ProcessPages {
  pid_t pid = 0;
  std::vector<memory::AreaPages> areas;
};

// Ships all of them, waits until the sink has stored them, and fills in the statistics.
void ship(const std::vector<ProcessPages>& pages, const memory::Shipping& shipping, kinds::PageSink& sink,
          pb::dump_stats_entry& statistics);

}  // namespace godwit::dump
