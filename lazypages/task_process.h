#pragma once

#include <sys/types.h>

#include "engine/base/fd.h"
#include "lazypages/missing_pages.h"

namespace godwit::lazypages {

// A pidfd of the process that the images call `pid`: one with that pid, in our namespace or as its own calls
// it, that has userfaultfd areas where these pages are missing. Empty when there is none; a wrong process is
// never taken for it. Its areas must be registered.
Fd find_process(pid_t pid, const MissingPages& missing);

}  // namespace godwit::lazypages
