#pragma once

#include "engine/base/fd.h"

namespace godwit::commands {

// A server that goes to the background for --daemon. The caller's process waits until the server can serve
// requests and then ends with 0; when the server fails before, its message appears as usual and the process
// ends with the server's status. So a script that started a daemon knows whether it is there.
class Background {
 public:
  // Forks. Returns in the child, which leads a session of its own; in the parent it never returns.
  // Call it before any thread is started.
  static Background enter();

  // The server can serve requests: standard input, output and error become /dev/null, and the parent ends.
  void ready();

 private:
  explicit Background(Fd parent) : parent_(std::move(parent)) {}
  Fd parent_;
};

}  // namespace godwit::commands
