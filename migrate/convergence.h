#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace godwit::migrate {

// What one pre-copy round did. Times in seconds.
struct RoundFacts {
  uint64_t pages = 0;          // shipped
  double seconds = 0;          // from its scan to the receiver's word that all is stored
  double since_last_scan = 0;  // the time in which these pages became dirty; 0 in the first round
  double frozen = 0;           // how long the tree stood still for the scan
  uint64_t bytes_sent = 0;
};

struct ConvergenceLimits {
  double downtime = 0.3;     // --downtime-limit, seconds
  unsigned max_rounds = 10;  // --max-rounds
};

// What the downtime will be made of beside the pages that are left.
struct FixedCosts {
  double round_trip = 0;        // of the link, seconds
  uint64_t resident_pages = 0;  // the other side fills them in again before the tree runs
  unsigned tasks = 1;           // threads of the whole tree
};

struct Forecast {
  std::optional<double> dirty_rate;  // pages a second; unknown after the first round
  std::optional<uint64_t> pages_left;
  double link_rate = 0;  // pages a second
  std::optional<double> downtime;
};

enum class Decision { kNextRound, kConverged, kNoProgress, kMaxRounds };
// "the expected downtime is under the limit", for people.
std::string reason_of(Decision decision);

// Watches the rounds and says when another one is not worth it. The formulas stand in README.md.
class Convergence {
 public:
  Convergence(ConvergenceLimits limits, FixedCosts costs) : limits_(limits), costs_(costs) {}

  // Takes in a round that has just ended.
  Decision add(const RoundFacts& round);
  // After the last round.
  const Forecast& forecast() const { return forecast_; }

 private:
  double fixed_seconds(double freeze) const;

  ConvergenceLimits limits_;
  FixedCosts costs_;
  Forecast forecast_;
  unsigned rounds_ = 0;
  uint64_t last_pages_ = 0;
  double best_rate_ = 0;
};

}  // namespace godwit::migrate
