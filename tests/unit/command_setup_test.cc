#include "engine/commands/command_setup.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <functional>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/commands/background.h"
#include "tests/support/temporary_directory.h"

namespace godwit::commands {
namespace {

// Setting up changes directory and log, so each trial has a process of its own; its exit status.
int status_of_child(const std::function<int()>& body) {
  std::fflush(nullptr);  // else what doctest has buffered comes out twice
  pid_t pid = check(::fork(), "fork");
  if (pid == 0) {
    int status = 99;
    try {
      status = body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
    }
    ::_exit(status);
  }
  int status = 0;
  check(::waitpid(pid, &status, 0), "waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string failure_of(auto&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST_CASE("names are relative to where the manual says") {
  test::TemporaryDirectory dir;
  REQUIRE(::mkdir((dir / "images").c_str(), 0700) == 0);
  REQUIRE(::mkdir((dir / "work").c_str(), 0700) == 0);
  int status = status_of_child([&] {
    check(::chdir(dir.path().c_str()), "chdir");
    options::CommonOptions common;
    common.images_dir = "images";
    common.work_dir = "work";
    common.log_file = "log";
    common.verbosity = 9;
    CommandSetup setup(common);
    log::debug("a line");
    write_pidfile(std::optional<std::string>("pid"), 42);
    return common.images_dir == dir / "images" ? 0 : 1;
  });
  CHECK(status == 0);
  CHECK(read_file(AT_FDCWD, dir / "work/log").find("a line") != std::string::npos);
  CHECK(read_file(AT_FDCWD, dir / "work/pid") == "42");
}

TEST_CASE("the log is in the image directory when there is no work directory, and verbosity holds") {
  test::TemporaryDirectory dir;
  CHECK(status_of_child([&] {
          options::CommonOptions common;
          common.images_dir = dir.path();
          common.log_file = "log";
          common.verbosity = 1;
          CommandSetup setup(common);
          log::warning("unwanted");
          log::error("wanted");
          return 0;
        }) == 0);
  CHECK(read_file(AT_FDCWD, dir / "log") == "Error: wanted\n");
}

TEST_CASE("directories that are not there are named") {
  options::CommonOptions common;
  common.images_dir = "/nonexistent/images";
  CHECK(failure_of([&] { CommandSetup setup(common); }) ==
        "image directory /nonexistent/images: openat(/nonexistent/images): No such file or directory");
  common.images_dir = "/";
  common.work_dir = "/nonexistent/work";
  CHECK(failure_of([&] { CommandSetup setup(common); }) ==
        "work directory /nonexistent/work: chdir: No such file or directory");
}

TEST_CASE("a pid file that exists is not overwritten") {
  test::TemporaryDirectory dir;
  write_pidfile(dir / "pid", 1);
  CHECK(failure_of([&] { write_pidfile(dir / "pid", 2); }).find("File exists") != std::string::npos);
  CHECK(read_file(AT_FDCWD, dir / "pid") == "1");
  write_pidfile(std::optional<std::string>(), 3);
}

TEST_CASE("the status descriptor gets one NUL and is closed") {
  Pipe pipe = Pipe::create();
  signal_ready(pipe.write_end.release());
  char bytes[4] = {1, 1, 1, 1};
  CHECK(::read(pipe.read_end.get(), bytes, sizeof bytes) == 1);
  CHECK(bytes[0] == 0);
  CHECK(::read(pipe.read_end.get(), bytes, sizeof bytes) == 0);
  signal_ready(std::nullopt);
  CHECK(failure_of([] { signal_ready(9999); }).find("--status-fd") != std::string::npos);
}

TEST_CASE("a daemon's parent waits until it is ready and ends with 0") {
  test::TemporaryDirectory dir;
  Pipe end = Pipe::create();
  int status = status_of_child([&] {
    Background background = Background::enter();
    end.read_end.reset();
    write_pidfile(dir / "pid", ::getpid());
    background.ready();
    bool silent = read_link(AT_FDCWD, "/proc/self/fd/2") == "/dev/null" && ::getsid(0) == ::getpid();
    write_pidfile(dir / (silent ? "silent" : "loud"), ::getpid());
    return 0;
  });
  CHECK(status == 0);
  // Written before the parent ended, and what comes after it ends with the daemon's end of the pipe.
  CHECK_FALSE(read_file(AT_FDCWD, dir / "pid").empty());
  end.write_end.reset();
  std::byte byte;
  CHECK(read_up_to(end.read_end.get(), std::span(&byte, 1), "pipe") == 0);
  CHECK(read_file_if_exists(AT_FDCWD, dir / "silent").has_value());
}

TEST_CASE("a daemon that fails before it is ready gives its status to the parent") {
  CHECK(status_of_child([] {
          Background background = Background::enter();
          return 7;
        }) == 7);
  CHECK(status_of_child([] {
          Background background = Background::enter();
          ::raise(SIGKILL);
          return 0;
        }) == 1);
}

}  // namespace
}  // namespace godwit::commands
