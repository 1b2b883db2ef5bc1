#include <signal.h>
#include <unistd.h>

#include <cstdio>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "migrate/agent.h"
#include "migrate/arguments.h"
#include "migrate/source.h"

namespace {

using namespace godwit;

struct Dispatch {
  int operator()(const migrate::HelpText& help) const {
    std::fputs(help.text.c_str(), stdout);
    return 0;
  }
  int operator()(const migrate::RunOptions& options) const {
    log::open(STDERR_FILENO, static_cast<log::Level>(options.verbosity));
    return migrate::run_source(options);
  }
  int operator()(const migrate::AgentOptions& options) const {
    log::open(STDERR_FILENO, static_cast<log::Level>(options.verbosity));
    return migrate::run_agent(options);
  }
};

}  // namespace

int main(int argc, char** argv) {
  // A peer or a reader that went away is an error of that write, not our end.
  ::signal(SIGPIPE, SIG_IGN);
  try {
    return std::visit(Dispatch(), migrate::parse_arguments({argv, argv + argc}));
  } catch (const UsageError& error) {
    std::fprintf(stderr, "Error: %s\n", error.what());
    return migrate::kUsage;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "Error: %s\n", error.what());
    return migrate::kRolledBack;
  }
}
