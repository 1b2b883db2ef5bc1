#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "lazypages/latency_histogram.h"
#include "lazypages/page_schedule.h"

namespace godwit::lazypages {

// What a daemon did.
struct Statistics {
  uint64_t requests = 0;
  uint64_t wanted_pages = 0;     // came because somebody waited
  uint64_t predicted_pages = 0;  // came because of somebody else's, or an earlier, wait
  uint64_t swept_pages = 0;
  uint64_t zero_faults = 0;             // faults on pages that are in no image
  uint64_t dropped_pages = 0;           // unmapped or discarded by the tasks before they came
  LatencyHistogram waits;               // from a fault's arrival here until its page was placed
  std::chrono::nanoseconds transfer{};  // from the first request to the last placed page

  void count(Reason reason, uint64_t pages);
  uint64_t pages() const { return wanted_pages + predicted_pages + swept_pages; }
};

// The lines of --display-stats, each ended by a new line.
std::string describe(const Statistics& statistics);

}  // namespace godwit::lazypages
