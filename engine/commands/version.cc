#include <cstdio>

#include "engine/commands/commands.h"

namespace godwit::commands {

int version() {
  // Container tools parse the first line to decide what they may ask for, so it names the CRIU version whose
  // command line and formats these are. The second says whose engine it is, in the form "vMAJOR.MINOR-..."
  // that they know.
  std::puts("Version: 4.2");
  std::puts("GitID: v4.2-godwit-" GODWIT_VERSION);
  return 0;
}

}  // namespace godwit::commands
