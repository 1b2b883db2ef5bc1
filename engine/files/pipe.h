#pragma once

#include <memory>

#include "engine/kinds/file_kind.h"

namespace godwit::files {

// Anonymous pipes: PIPE entries, one per description, and pipes-data.img with capacity and contents, which
// are read without being taken out (tee(2)). A pipe of which an end is held outside of the tree is a problem.
std::unique_ptr<kinds::FileKind> make_pipe_kind();

}  // namespace godwit::files
