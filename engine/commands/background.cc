#include "engine/commands/background.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "engine/base/error.h"

namespace godwit::commands {
namespace {

// Ends the calling process with the daemon's first news: ready, or how it ended.
[[noreturn]] void end_as_parent(pid_t daemon, const Fd& news) {
  std::byte byte;
  if (read_up_to(news.get(), std::span(&byte, 1), "daemon") == 1) ::_exit(EXIT_SUCCESS);
  int status = 0;
  while (::waitpid(daemon, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) {
    std::fprintf(stderr, "Error: the daemon was ended by signal %d before it was ready\n", WTERMSIG(status));
    ::_exit(EXIT_FAILURE);
  }
  // It said why, or it had nothing to serve and that was well.
  ::_exit(WEXITSTATUS(status));
}

}  // namespace

Background Background::enter() {
  Pipe news = Pipe::create();
  std::fflush(nullptr);  // else buffered text would appear twice
  pid_t pid = check(::fork(), "fork");
  if (pid != 0) {
    news.write_end.reset();
    end_as_parent(pid, news.read_end);
  }
  check(::setsid(), "setsid");
  return Background(std::move(news.write_end));
}

void Background::ready() {
  std::fflush(nullptr);
  Fd null = open_at(AT_FDCWD, "/dev/null", O_RDWR);
  for (int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    check(::dup2(null.get(), standard), "dup2({})", standard);
  }
  const std::byte byte{0};
  write_all(parent_.get(), std::span(&byte, 1), "the daemon's parent");
  parent_.reset();
}

}  // namespace godwit::commands
