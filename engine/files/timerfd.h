#pragma once

#include <memory>

#include "engine/kinds/file_kind.h"

namespace godwit::files {

// timerfd_create(2): TIMERFD entries. A timer has as long to go after the restore as it had at the dump,
// whether it was set with TFD_TIMER_ABSTIME or not.
std::unique_ptr<kinds::FileKind> make_timerfd_kind();

}  // namespace godwit::files
