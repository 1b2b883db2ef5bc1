#include "lazypages/statistics.h"

#include <fmt/format.h>

#include "engine/base/units.h"

namespace godwit::lazypages {
namespace {

double in_microseconds(std::chrono::nanoseconds time) {
  return static_cast<double>(time.count()) / 1e3;
}

}  // namespace

void Statistics::count(Reason reason, uint64_t pages) {
  ++requests;
  switch (reason) {
    case Reason::kFault:
      wanted_pages += pages;
      break;
    case Reason::kPrediction:
      predicted_pages += pages;
      break;
    case Reason::kSweep:
      swept_pages += pages;
      break;
  }
}

std::string describe(const Statistics& statistics) {
  double seconds = std::chrono::duration<double>(statistics.transfer).count();
  double mib = static_cast<double>(statistics.pages() * kPageSize) / static_cast<double>(kMiB);
  std::string text = "Displaying lazy-pages stats:\n";
  auto out = std::back_inserter(text);
  const LatencyHistogram& waits = statistics.waits;
  fmt::format_to(out, "Faults that waited: {}\n", waits.count());
  fmt::format_to(out, "Waits: p50 {:.0f} us, p90 {:.0f} us, p99 {:.0f} us, longest {:.0f} us\n",
                 in_microseconds(waits.quantile(0.5)), in_microseconds(waits.quantile(0.9)),
                 in_microseconds(waits.quantile(0.99)), in_microseconds(waits.longest()));
  fmt::format_to(out, "Faults on empty pages: {}\n", statistics.zero_faults);
  fmt::format_to(out, "Pages received: {} (for faults {}, predicted {}, in the background {})\n",
                 statistics.pages(), statistics.wanted_pages, statistics.predicted_pages,
                 statistics.swept_pages);
  fmt::format_to(out, "Pages given up by the tasks: {}\n", statistics.dropped_pages);
  fmt::format_to(out, "Requests: {}\n", statistics.requests);
  fmt::format_to(out, "Transfer: {:.3f} s, {:.1f} MiB/s\n", seconds, seconds > 0 ? mib / seconds : 0);
  return text;
}

}  // namespace godwit::lazypages
