#pragma once

#include <memory>

#include "engine/kinds/file_kind.h"

namespace godwit::files {

// eventfd(2): EVENTFD entries. EFD_SEMAPHORE has no field of its own: it is bit 0 of flags, which never means
// anything else there (an eventfd is O_RDWR) and which CRIU ignores.
std::unique_ptr<kinds::FileKind> make_eventfd_kind();

}  // namespace godwit::files
