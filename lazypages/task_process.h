#pragma once

#include <sys/types.h>

#include <cstdint>

#include "engine/base/fd.h"
#include "lazypages/missing_pages.h"

namespace godwit::lazypages {

struct TaskProcess {
  pid_t pid = 0;  // in our namespace
  Fd pidfd;       // empty: not found
};

// The process that the images call `pid`: one with that pid, in our namespace or as its own calls it, that
// has userfaultfd areas where these pages are missing. A wrong process is never taken for it. Its areas must
// be registered.
TaskProcess find_process(pid_t pid, const MissingPages& missing);

// Whether a process has a page at this address, in memory or in swap.
bool has_page(const TaskProcess& process, uint64_t address);

}  // namespace godwit::lazypages
