#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <variant>

#include "engine/base/fd.h"

// lazy-pages.socket in the work directory: a restore hands the userfaultfds of its tasks to the lazy-pages
// daemon. CRIU's protocol (a stream, native byte order), so that either end may be stock: an i32 pid followed
// by one byte that carries the userfaultfd (SCM_RIGHTS); a negative pid for a task without pages to come,
// with nothing behind it; at last the u32 "RSTF", once every area is registered.
namespace godwit::memory {

inline constexpr const char* kLazyPagesSocketName = "lazy-pages.socket";

// The restore's end. A connection that ends without finish() tells the daemon that the restore failed.
class LazyHandoverClient {
 public:
  // Connects to the daemon of this work directory. Throws Error when none listens there.
  static LazyHandoverClient connect(const std::string& directory);

  // A task with pages to come, or with an empty `userfaultfd` one without, which only a stock daemon needs to
  // hear of: it counts the tasks of the images. `pid` as the images call it. Throws SystemError when the
  // daemon is gone.
  void send(pid_t pid, Fd userfaultfd);
  // Everything was handed over and is registered; the tasks may run from now on.
  void finish();

 private:
  void skip(pid_t pid);
  explicit LazyHandoverClient(Fd socket) : socket_(std::move(socket)) {}
  Fd socket_;
};

// One restore, as the daemon sees it. Never blocks.
class LazyHandover {
 public:
  explicit LazyHandover(Fd socket) : socket_(std::move(socket)) {}

  struct Task {
    pid_t pid = 0;  // as the images call it
    Fd userfaultfd;
  };
  struct Finished {};
  struct Ended {};  // the restore closed the connection; a failure unless Finished came before
  using Message = std::variant<Task, Finished, Ended>;

  // The next message if it is complete. Throws FormatError for anything else, SystemError.
  std::optional<Message> receive_if_ready();
  int fd() const { return socket_.get(); }

 private:
  Fd socket_;
  std::optional<pid_t> pid_;  // of the userfaultfd that comes next
};

// The daemon's socket. The destructor removes it.
class LazyHandoverListener {
 public:
  // Replaces the socket of a daemon that has died. Throws Error when a daemon listens already.
  explicit LazyHandoverListener(const std::string& directory);
  LazyHandoverListener(const LazyHandoverListener&) = delete;
  LazyHandoverListener& operator=(const LazyHandoverListener&) = delete;
  ~LazyHandoverListener();

  // The next connection of a restore that runs as our user or as root; nothing when none waits.
  std::optional<LazyHandover> accept_if_ready();
  int fd() const { return socket_.get(); }

 private:
  Fd directory_, socket_;
};

}  // namespace godwit::memory
