#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace godwit::files {

// The build id of an ELF file (its NT_GNU_BUILD_ID note), packed into words as CRIU's images have it: the
// bytes in their order, zeros at the end. Empty when the file is no ELF file or has none. `fd` must be open
// for reading; its position stays.
std::vector<uint32_t> read_build_id(int fd);

}  // namespace godwit::files
