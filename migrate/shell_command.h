#pragma once

#include <string>
#include <utility>
#include <vector>

#include "engine/kinds/stage_hooks.h"

namespace godwit::migrate {

using EnvironmentEntries = std::vector<std::pair<std::string, std::string>>;

// Runs `command` by /bin/sh -c with these variables added, standard input from /dev/null and standard output
// to our standard error. Throws Error that names the command and how it ended, unless with 0. No descriptor
// of ours reaches it.
void run_shell_command(const std::string& command, const EnvironmentEntries& environment);

// The --action-script commands of a move: each runs at every stage with CRTOOLS_SCRIPT_ACTION, and
// CRTOOLS_INIT_PID where there is a root task. GODWIT_MOVE_ID names the move.
class ActionCommands final : public kinds::StageHooks {
 public:
  ActionCommands(std::vector<std::string> commands, std::string move_id)
      : commands_(std::move(commands)), move_id_(std::move(move_id)) {}
  void run(kinds::Stage stage, pid_t root_pid) override;

 private:
  std::vector<std::string> commands_;
  std::string move_id_;
};

}  // namespace godwit::migrate
