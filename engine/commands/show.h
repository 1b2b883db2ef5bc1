#pragma once

#include "engine/options/commands_options.h"

namespace godwit::commands {

// `criu show`: prints one image file (-f) or every image of a directory (-D) to standard output. Returns 0,
// or 1 if a file of the directory is damaged; throws for a single file.
int show(const options::ShowOptions& options);

}  // namespace godwit::commands
