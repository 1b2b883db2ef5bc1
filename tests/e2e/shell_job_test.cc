// A program on a terminal, as a shell starts it: its session, its process group and its terminal stay outside
// the dump, and are those of the criu that restores it.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/child.h"
#include "tests/support/program.h"
#include "tests/support/temporary_directory.h"

namespace godwit::test {
namespace {

// A session with a terminal, whose leader runs `words` in a process group of its own in the foreground and
// waits for it, as a shell does.
class TerminalSession {
 public:
  explicit TerminalSession(const std::vector<std::string>& words) {
    leader_ = ::forkpty(&terminal_, nullptr, nullptr, nullptr);
    if (leader_ != 0) return;
    ::signal(SIGTTOU, SIG_IGN);
    pid_t job = ::fork();
    if (job == 0) {
      ::setpgid(0, 0);
      ::tcsetpgrp(0, ::getpid());
      ::signal(SIGTTOU, SIG_DFL);
      std::vector<char*> pointers;
      for (const auto& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
      pointers.push_back(nullptr);
      ::close_range(3, ~0u, 0);
      ::execv(pointers[0], pointers.data());
      ::_exit(127);
    }
    int status = 0;
    ::waitpid(job, &status, 0);
    ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
  }
  TerminalSession(const TerminalSession&) = delete;
  TerminalSession& operator=(const TerminalSession&) = delete;
  ~TerminalSession() {
    end_tree(leader_);
    ::close(terminal_);
  }

  pid_t leader() const { return leader_; }
  pid_t job() const {
    auto tree = tree_of(leader_);
    return tree.size() > 1 ? tree[1] : -1;
  }
  // What came to the screen, up to and with `word`; empty when it does not come.
  std::string read_until(const std::string& word) {
    std::string seen;
    ::fcntl(terminal_, F_SETFL, O_NONBLOCK);
    bool found = eventually([&] {
      char text[256];
      ssize_t count = ::read(terminal_, text, sizeof text);
      if (count > 0) seen.append(text, static_cast<size_t>(count));
      return seen.find(word) != std::string::npos;
    });
    return found ? seen : "";
  }
  void type(const std::string& text) { REQUIRE(::write(terminal_, text.data(), text.size()) > 0); }

 private:
  int terminal_ = -1;
  pid_t leader_ = -1;
};

TEST_CASE("a shell job needs --shell-job by name, and with it moves from one terminal to another") {
  become_reaper();
  TemporaryDirectory images;
  const std::string script = "read a; echo first $a; read b; echo second $b; read c";
  {
    TerminalSession session({"/bin/dash", "-c", script});
    session.type("one\n");
    REQUIRE(session.read_until("first one") != "");
    std::string pid = std::to_string(session.job());
    Outcome refused = criu({"dump", "-t", pid, "-D", images.path()});
    CHECK(refused.status == 1);
    CHECK(refused.output.find("--shell-job") != std::string::npos);
    Outcome dumped = criu({"dump", "-t", pid, "-D", images.path(), "--shell-job"});
    INFO(dumped.output);
    REQUIRE(dumped.status == 0);
    Outcome unasked = criu({"restore", "-D", images.path(), "-d"});
    CHECK(unasked.status == 1);
    CHECK(unasked.output.find("--shell-job") != std::string::npos);
  }
  TerminalSession elsewhere({GODWIT_BUILD_DIR "/criu", "restore", "-D", images.path(), "--shell-job"});
  elsewhere.type("two\n");
  CHECK(elsewhere.read_until("second two") != "");
}

}  // namespace
}  // namespace godwit::test
