#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>

#include <cstdio>
#include <string>

#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "tests/support/temporary_directory.h"

namespace godwit {
namespace {

struct Outcome {
  int status = -1;
  std::string output;  // standard output and error together
};

// `criu` as an operator starts it, through a shell.
Outcome criu(const std::string& arguments) {
  std::string command =
      std::string(GODWIT_BUILD_DIR) + "/criu --no-default-config " + arguments + " 2>&1 </dev/null";
  FILE* pipe = ::popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  Outcome outcome;
  char buffer[4096];
  for (size_t count; (count = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;)
    outcome.output.append(buffer, count);
  int status = ::pclose(pipe);
  outcome.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return outcome;
}

TEST_CASE("the version can be parsed by container tools") {
  Outcome outcome = criu("-V");
  CHECK(outcome.status == 0);
  int major = 0, minor = 0;
  CHECK(std::sscanf(outcome.output.c_str(), "Version: %d.%d\nGitID: v", &major, &minor) == 2);
  CHECK(major >= 4);
}

TEST_CASE("usage errors end with 2, refusals and failures with 1, each in one line") {
  Outcome usage = criu("dump -t abc");
  CHECK(usage.status == 2);
  CHECK(usage.output == "Error: -t: not a process id: abc\n");
  Outcome refused = criu("dump -t 1 --file-locks");
  CHECK(refused.status == 1);
  CHECK(refused.output == "Error: --file-locks: not available yet\n");
  Outcome failed = criu("check -D /nonexistent/images");
  CHECK(failed.status == 1);
  CHECK(failed.output.find("Error: image directory /nonexistent/images: ") == 0);
}

TEST_CASE("an error is in the log file too, and -v0 keeps it off the screen") {
  test::TemporaryDirectory dir;
  Outcome outcome = criu("check --feature nonsense -o log -W " + dir.path());
  CHECK(outcome.status == 2);
  CHECK(outcome.output.find("unknown feature nonsense") != std::string::npos);
  CHECK(read_file(AT_FDCWD, dir / "log").find("unknown feature nonsense") != std::string::npos);
  CHECK(criu("check --feature nonsense -v0 -W " + dir.path()).output.empty());
}

TEST_CASE("help") {
  Outcome all = criu("-h");
  CHECK(all.status == 0);
  CHECK(all.output.find("Usage: criu COMMAND") == 0);
  CHECK(criu("restore --help").output.find("Usage: criu restore") == 0);
}

TEST_CASE("check gives a verdict and a status that agree") {
  Outcome outcome = criu("check");
  INFO(outcome.output);
  bool good = outcome.output.ends_with("Looks good.\n");
  CHECK((good || outcome.output.ends_with("Does not look good.\n")));
  CHECK((outcome.status == 0) == good);
  CHECK(outcome.output.find("Memory changes are tracked by: ") != std::string::npos);
  CHECK(criu("check --feature list").output.find("\nclone3_set_tid\n") != std::string::npos);
}

}  // namespace
}  // namespace godwit
