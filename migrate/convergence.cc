#include "migrate/convergence.h"

#include <algorithm>
#include <utility>

namespace godwit::migrate {
namespace {

// Measured on slow machines rather than fast ones: an expectation that is too high costs a round, one that is
// too low costs the operator's limit.
constexpr double kRestoreBase = 0.04;              // planning, the first task, files
constexpr double kSecondsPerTask = 0.0015;         // dump and restore of a thread
constexpr double kPagesFilledPerSecond = 250'000;  // by the restore, about 1 GB/s
constexpr double kRoundTrips = 6;                  // questions and answers while nothing runs

// A rate measured over fewer pages says more about round trips than about the link.
constexpr uint64_t kPagesForRate = 256;
// A round that is not smaller than this part of the one before brings nothing.
constexpr double kProgress = 0.9;

}  // namespace

std::string reason_of(Decision decision) {
  switch (decision) {
    case Decision::kConverged:
      return "the expected downtime is under the limit";
    case Decision::kNoProgress:
      return "the last round did not improve";
    case Decision::kMaxRounds:
      return "--max-rounds is reached";
    case Decision::kNextRound:
      break;
  }
  return "another round";
}

double Convergence::fixed_seconds(double freeze) const {
  return freeze + kRoundTrips * costs_.round_trip + kRestoreBase + kSecondsPerTask * costs_.tasks +
         static_cast<double>(costs_.resident_pages) / kPagesFilledPerSecond;
}

Decision Convergence::add(const RoundFacts& round) {
  ++rounds_;
  double seconds = std::max(round.seconds, 1e-6);
  auto pages = static_cast<double>(round.pages);
  if (best_rate_ == 0 || round.pages >= kPagesForRate) best_rate_ = pages / seconds;
  forecast_ = {};
  forecast_.link_rate = best_rate_;
  bool first = round.since_last_scan <= 0;
  if (!first) {
    double dirty = pages / round.since_last_scan;
    // What became dirty while this round was on its way is what is left; never more than all there is.
    double left = dirty * seconds;
    if (costs_.resident_pages > 0) left = std::min(left, static_cast<double>(costs_.resident_pages));
    forecast_.dirty_rate = dirty;
    forecast_.pages_left = static_cast<uint64_t>(left);
    forecast_.downtime = left / std::max(best_rate_, 1.0) + fixed_seconds(round.frozen);
  }
  uint64_t before = std::exchange(last_pages_, round.pages);
  if (forecast_.downtime && *forecast_.downtime <= limits_.downtime) return Decision::kConverged;
  if (rounds_ >= limits_.max_rounds) return Decision::kMaxRounds;
  // The second round is the first whose size says anything about the dirty rate.
  if (rounds_ > 2 && pages >= kProgress * static_cast<double>(before)) return Decision::kNoProgress;
  return Decision::kNextRound;
}

}  // namespace godwit::migrate
