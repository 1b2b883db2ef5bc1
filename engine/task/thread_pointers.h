#pragma once

#include <memory>

#include "engine/task/task_part.h"

namespace godwit::task {

// The task part "thread_pointers": what the kernel keeps of a thread's user memory: clear_child_tid, robust
// futexes, rseq.
std::unique_ptr<TaskPart> make_thread_pointers_part();

}  // namespace godwit::task
