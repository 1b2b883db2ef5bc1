#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tls/credentials.h"

namespace godwit::migrate {

inline constexpr uint16_t kDefaultPort = 27185;

struct AgentOptions {
  std::string address;  // empty: all
  uint16_t port = kDefaultPort;
  tls::CredentialFiles credentials;
  std::string work_dir = "/var/lib/godwit/agent";
  std::vector<std::string> allow;  // common names of certificates; empty: whoever the authority signed
  unsigned max_moves = 16;
  std::optional<std::string> pidfile;
  std::optional<int> status_fd;
  std::vector<std::string> action_scripts;
  int verbosity = 2;
};

}  // namespace godwit::migrate
