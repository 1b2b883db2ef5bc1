#pragma once

#include <memory>

#include "engine/task/task_part.h"

namespace godwit::task {

// The task part "signals": signal actions, the blocked set, pending signals and the alternate stack.
std::unique_ptr<TaskPart> make_signals_part();

}  // namespace godwit::task
