#pragma once

#include "migrate/run_options.h"

namespace godwit::migrate {

// The whole of `migrate run`, or of `migrate check`: moves the tree and tells the operator. Returns an
// ExitStatus; throws Error when not even the preflight could be asked for (the tree runs then).
int run_source(const RunOptions& options);

}  // namespace godwit::migrate
