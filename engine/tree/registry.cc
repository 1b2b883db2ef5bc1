#include "engine/tree/registry.h"

#include "engine/files/device.h"
#include "engine/files/eventfd.h"
#include "engine/files/eventpoll.h"
#include "engine/files/pipe.h"
#include "engine/files/regular_file.h"
#include "engine/files/terminal.h"
#include "engine/files/timerfd.h"
#include "engine/sockets/inet_socket.h"
#include "engine/task/credentials.h"
#include "engine/task/identity.h"
#include "engine/task/resource_limits.h"
#include "engine/task/scheduling.h"
#include "engine/task/seccomp.h"
#include "engine/task/signals.h"
#include "engine/task/thread_pointers.h"
#include "engine/task/timers.h"

namespace godwit::tree {

std::vector<std::unique_ptr<kinds::FileKind>> make_file_kinds() {
  std::vector<std::unique_ptr<kinds::FileKind>> kinds;
  kinds.push_back(files::make_device_kind());
  kinds.push_back(files::make_regular_file_kind());
  kinds.push_back(files::make_pipe_kind());
  kinds.push_back(files::make_eventfd_kind());
  kinds.push_back(files::make_timerfd_kind());
  kinds.push_back(files::make_eventpoll_kind());
  kinds.push_back(files::make_terminal_kind());
  kinds.push_back(sockets::make_inet_socket_kind());
  return kinds;
}

std::vector<std::unique_ptr<task::TaskPart>> make_task_parts() {
  std::vector<std::unique_ptr<task::TaskPart>> parts;
  parts.push_back(task::make_identity_part());
  parts.push_back(task::make_scheduling_part());
  parts.push_back(task::make_resource_limits_part());
  parts.push_back(task::make_thread_pointers_part());
  // Filters while the thread may still install them without no_new_privs; their effect is suspended until it
  // runs.
  parts.push_back(task::make_seccomp_part());
  parts.push_back(task::make_credentials_part());
  // Pending signals and timers last: nothing that could be interrupted follows.
  parts.push_back(task::make_signals_part());
  parts.push_back(task::make_timers_part());
  return parts;
}

}  // namespace godwit::tree
