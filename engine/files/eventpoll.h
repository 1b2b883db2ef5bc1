#pragma once

#include <memory>

#include "engine/kinds/file_kind.h"

namespace godwit::files {

// epoll(7): EVENTPOLL entries. The registrations are made again by a task that holds the epoll and what it
// watches, under the numbers that the images name.
std::unique_ptr<kinds::FileKind> make_eventpoll_kind();

}  // namespace godwit::files
