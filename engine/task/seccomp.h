#pragma once

#include <memory>

#include "engine/task/task_part.h"

namespace godwit::task {

// The task part "seccomp": seccomp mode and filters.
std::unique_ptr<TaskPart> make_seccomp_part();

}  // namespace godwit::task
