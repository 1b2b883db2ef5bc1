#include <cstdio>

#include "engine/commands/commands.h"
#include "engine/options/help_text.h"

namespace godwit::commands {

int help(const options::HelpRequest& request) {
  std::fputs(options::help_text(request.command).c_str(), stdout);
  return 0;
}

}  // namespace godwit::commands
