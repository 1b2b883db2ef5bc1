#include "engine/base/error.h"

#include <doctest/doctest.h>
#include <unistd.h>

namespace godwit {
namespace {

std::string message_of(auto&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST_CASE("an error reads from the outside in") {
  ErrorContext dump{"dump pid {}", 42};
  ErrorContext fd{"fd {}", 5};
  CHECK(message_of([] { throw SystemError(ENOENT, "openat({})", "/srv/x"); }) ==
        "dump pid 42: fd 5: openat(/srv/x): No such file or directory");
}

TEST_CASE("a context that has ended adds nothing") {
  { ErrorContext gone{"gone"}; }
  CHECK(message_of([] { throw Error("late"); }) == "late");
}

TEST_CASE("check keeps the errno of the failing call") {
  try {
    check(::close(-1), "close({})", -1);
    FAIL("close(-1) succeeded");
  } catch (const SystemError& error) {
    CHECK(error.code() == EBADF);
  }
}

}  // namespace
}  // namespace godwit
