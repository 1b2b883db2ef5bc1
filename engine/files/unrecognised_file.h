#pragma once

#include <string>

#include "engine/kinds/file_kind.h"
#include "engine/kinds/policy.h"

namespace godwit::files {

// Names an open file that no kind takes, and says what the user can do: "anon_inode:[io_uring]: io_uring
// cannot be dumped yet".
std::string why_not_recognised(const kinds::OpenFile& file, const kinds::Policy& policy);

}  // namespace godwit::files
