#include "engine/base/fd.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>

#include "engine/base/error.h"

namespace godwit {
namespace {

TEST_CASE("a descriptor is closed when its owner goes, and moving it moves the duty") {
  int raw;
  {
    Pipe pipe = Pipe::create();
    raw = pipe.read_end.get();
    Fd moved = std::move(pipe.read_end);
    CHECK(moved.get() == raw);
    CHECK(::fcntl(raw, F_GETFD) == FD_CLOEXEC);
  }
  CHECK(::fcntl(raw, F_GETFD) == -1);
}

TEST_CASE("moving a descriptor onto itself keeps it open") {
  Pipe pipe = Pipe::create();
  Fd& same = pipe.read_end;
  int raw = same.get();
  pipe.read_end = std::move(same);
  CHECK(::fcntl(raw, F_GETFD) >= 0);
}

TEST_CASE("what is ordinary is not an error: a file that may be missing") {
  CHECK_FALSE(open_if_exists(AT_FDCWD, "/proc/self/no-such-file", O_RDONLY).has_value());
  CHECK_THROWS_AS(open_at(AT_FDCWD, "/proc/self/no-such-file", O_RDONLY), SystemError);
}

TEST_CASE("a stream that ends early says how early") {
  Pipe pipe = Pipe::create();
  write_all(pipe.write_end.get(), std::array<std::byte, 3>{}, "pipe");
  pipe.write_end.reset();
  std::array<std::byte, 8> wanted;
  CHECK_THROWS_WITH_AS(read_exactly(pipe.read_end.get(), wanted, "header"), "header ends early: 3 of 8 bytes",
                       FormatError);
}

TEST_CASE("/proc files are read whole though they have no size") {
  CHECK(read_file(AT_FDCWD, "/proc/self/status").find("VmRSS") != std::string::npos);
  CHECK_THROWS_AS(read_file(AT_FDCWD, "/proc/self/status", 16), Error);
}

}  // namespace
}  // namespace godwit
