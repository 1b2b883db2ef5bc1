#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "migrate/agent_options.h"
#include "migrate/convergence.h"
#include "tls/credentials.h"

namespace godwit::migrate {

enum class Mode { kPrecopy, kPostcopy };

// `migrate run` and `migrate check`.
struct RunOptions {
  pid_t tree = 0;
  std::string host;
  uint16_t port = kDefaultPort;
  tls::CredentialFiles credentials;
  bool verify_name = true;
  bool check_only = false;
  Mode mode = Mode::kPrecopy;
  ConvergenceLimits limits;
  bool shell_job = false;
  bool tcp_close = false;
  std::vector<std::string> action_scripts;
  std::optional<std::string> pre_commit, post_commit;  // shell commands
  bool json = false;
  std::string work_dir = "/var/lib/godwit/source";
  std::chrono::seconds timeout{30};  // for the freeze, and for each answer of the agent
  int verbosity = 2;
};

// How `migrate run` ends.
enum ExitStatus : int {
  kMoved = 0,
  kRolledBack = 1,  // nothing happened: the tree runs here
  kUsage = 2,
  kMovedWithTrouble = 3,  // the tree runs there, but something after the commit failed
  kPreflightFailed = 5,
};

}  // namespace godwit::migrate
