#pragma once

#include <memory>
#include <vector>

#include "engine/kinds/file_kind.h"
#include "engine/task/task_part.h"

namespace godwit::tree {

// Every kind of open file, in the order in which they are asked whether a file is theirs.
std::vector<std::unique_ptr<kinds::FileKind>> make_file_kinds();
// Every part of a thread's state, in the order in which a restored thread takes them on.
std::vector<std::unique_ptr<task::TaskPart>> make_task_parts();

}  // namespace godwit::tree
