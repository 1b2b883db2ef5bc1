#pragma once

#include <memory>

#include "engine/task/task_part.h"

namespace godwit::task {

// The task part "credentials": user and group ids, capabilities, securebits, no_new_privs.
std::unique_ptr<TaskPart> make_credentials_part();

}  // namespace godwit::task
