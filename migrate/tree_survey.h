#pragma once

#include <sys/types.h>

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "proto/control/control.pb.h"

namespace godwit::migrate {

// A running tree as it looks from outside, without touching it. What changes meanwhile is seen by the dump.
struct TreeSurvey {
  std::string name;         // of the root
  std::vector<pid_t> pids;  // root first
  size_t threads = 0;
  uint64_t resident_bytes = 0;
  std::set<pid_t> stopped;     // in a group stop
  std::set<uint32_t> numbers;  // pids, tids, process groups and sessions
  std::vector<pb::reg_file_entry> files;
};

// Throws Error "pid 42: no such process"; a child that is gone meanwhile is left out.
TreeSurvey survey_tree(pid_t root);

// The question that the agent answers with findings.
pb::preflight make_preflight(const TreeSurvey& survey, bool postcopy);

}  // namespace godwit::migrate
