#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "migrate/convergence.h"

namespace godwit::migrate {

// What happened in one move. Times in seconds.
struct MoveReport {
  std::string id, outcome, reason;  // outcome: "moved", "rolled back", "moved with trouble"
  pid_t pid = 0;
  std::string name, mode, destination;
  size_t processes = 0, threads = 0;
  uint64_t resident_bytes = 0;
  double round_trip = 0;  // seconds
  double link_rate = 0;   // bytes a second, as first measured
  std::vector<std::string> warnings, findings;
  struct Round {
    RoundFacts facts;
    Forecast forecast;
  };
  std::vector<Round> rounds;
  std::string why_rounds_ended;

  struct Final {
    uint64_t dirty_pages = 0;    // that the tracker found written since the last round
    uint64_t shipped_pages = 0;  // as counted on the way to the agent
    uint64_t lazy_pages = 0;
    uint64_t image_bytes = 0;
    double freeze = 0, ship = 0, images = 0, restore = 0, commit = 0;
  } last;
  uint64_t postcopy_pages = 0;
  double postcopy = 0;
  double total = 0, downtime = 0;
  uint64_t bytes_on_wire = 0;
};

// One JSON object, pretty printed.
std::string to_json(const MoveReport& report);

}  // namespace godwit::migrate
