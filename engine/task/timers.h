#pragma once

#include <memory>

#include "engine/task/task_part.h"

namespace godwit::task {

// The task part "timers": interval timers and POSIX timers.
std::unique_ptr<TaskPart> make_timers_part();

}  // namespace godwit::task
