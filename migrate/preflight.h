#pragma once

#include <functional>
#include <string>

#include "proto/control/control.pb.h"

namespace godwit::migrate {

// What the agent's side compares a tree's needs with; the parts that tests put in.
struct PreflightSurroundings {
  std::string work_dir;
  std::function<bool(uint32_t number)> number_is_taken;  // as a pid, a tid, a process group or a session
};
PreflightSurroundings surroundings_here(const std::string& work_dir);

// Everything that would stand in the way of restoring the tree here, each with what to do about it, and what
// the operator should know. Changes nothing. Throws only for what is broken here.
pb::findings check_preflight(const pb::preflight& question, const PreflightSurroundings& here);

}  // namespace godwit::migrate
