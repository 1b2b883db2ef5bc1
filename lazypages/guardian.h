#pragma once

#include <sys/types.h>

#include <cstdint>

#include "engine/base/fd.h"

namespace godwit::lazypages {

// A process of its own that holds duplicates of the userfaultfds. If the daemon dies while pages are missing,
// the kernel would drop the registration with the last descriptor, and the tasks would read zeros where their
// memory should be. So the guardian then kills the tasks that it knows, and holds the userfaultfds until the
// address spaces have ended: what touches a missing page waits for ever, and nobody computes with wrong
// memory. It stays out of the way of signals that end the daemon; a SIGKILL of both is beyond it.
class Guardian {
 public:
  // Forks it; call it before threads are started, and before sockets are opened that must close when the
  // daemon dies. `detached`: standard input, output and error of the guardian become /dev/null.
  static Guardian start(bool detached);
  Guardian(Guardian&& other) noexcept;
  Guardian& operator=(Guardian&&) = delete;
  // Without finish(), this is the death of the daemon to it.
  ~Guardian();

  // Also guards this userfaultfd (duplicated) from now on. `id` is the caller's.
  void hold(uint32_t id, int userfaultfd);
  // The process (pidfd, duplicated) to kill for it.
  void identify(uint32_t id, int pidfd);
  // All its pages have come, or it has ended.
  void release(uint32_t id);
  // Nothing is left to guard: ends it, and returns when it has ended, so that the tasks are rid of their
  // userfaultfds.
  void finish();

  pid_t pid() const { return pid_; }

 private:
  Guardian(Fd channel, pid_t pid) : channel_(std::move(channel)), pid_(pid) {}
  void tell(uint32_t what, uint32_t id, int fd);

  Fd channel_;
  pid_t pid_ = 0;
};

}  // namespace godwit::lazypages
