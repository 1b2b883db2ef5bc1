#pragma once

#include <memory>

#include "engine/kinds/file_kind.h"

namespace godwit::files {

// /dev/null, zero, full, random, urandom: REG entries without size and position, as CRIU writes them.
std::unique_ptr<kinds::FileKind> make_device_kind();

}  // namespace godwit::files
