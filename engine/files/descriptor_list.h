#pragma once

#include <sys/types.h>

#include <vector>

namespace godwit::files {

// The descriptor numbers of a process (/proc/PID/fd), ascending. Throws SystemError when it cannot be looked
// at.
std::vector<int> list_descriptors(pid_t pid);

}  // namespace godwit::files
