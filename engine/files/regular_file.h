#pragma once

#include <memory>

#include "engine/kinds/file_kind.h"

namespace godwit::files {

// Regular files, directories and symbolic links (O_PATH), by path: REG entries. A restore finds devices here
// too, as they have the same entries. Deleted and replaced files are problems.
std::unique_ptr<kinds::FileKind> make_regular_file_kind();

}  // namespace godwit::files
