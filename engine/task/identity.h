#pragma once

#include <memory>

#include "engine/task/task_part.h"

namespace godwit::task {

// The task part "identity": command name, personality, parent-death signal, subreaper, oom score, membarrier.
std::unique_ptr<TaskPart> make_identity_part();

}  // namespace godwit::task
