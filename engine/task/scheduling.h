#pragma once

#include <memory>

#include "engine/task/task_part.h"

namespace godwit::task {

// The task part "scheduling": nice value, policy and priority.
std::unique_ptr<TaskPart> make_scheduling_part();

}  // namespace godwit::task
