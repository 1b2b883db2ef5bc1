#pragma once

#include <memory>

#include "engine/task/task_part.h"

namespace godwit::task {

// The task part "resource_limits": the sixteen resource limits.
std::unique_ptr<TaskPart> make_resource_limits_part();

}  // namespace godwit::task
