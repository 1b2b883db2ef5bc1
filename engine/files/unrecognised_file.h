#pragma once

#include <string>

#include "engine/kinds/file_kind.h"

namespace godwit::files {

// Names an open file that no kind takes, and says what the user can do: "anon_inode:[io_uring]: io_uring
// cannot be dumped yet".
std::string why_not_recognised(const kinds::OpenFile& file);

}  // namespace godwit::files
