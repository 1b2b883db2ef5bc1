#include "engine/files/timerfd.h"

#include <doctest/doctest.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "engine/base/fd.h"

namespace godwit::files {
namespace {

TEST_CASE("an interval timer whose image shows it expired and standing still goes on") {
  pb::file_entry entry;
  auto& timer = *entry.mutable_tfd();
  timer.set_clockid(CLOCK_MONOTONIC);
  timer.set_ticks(3);
  timer.set_isec(1000);
  Fd fd = make_timerfd_kind()->open(entry, {});
  uint64_t ticks = 0;
  REQUIRE(::read(fd.get(), &ticks, sizeof ticks) == sizeof ticks);
  CHECK(ticks == 3);
  itimerspec left{};
  REQUIRE(::timerfd_gettime(fd.get(), &left) == 0);
  CHECK(left.it_value.tv_sec > 900);
}

TEST_CASE("a timer that was never armed stays so") {
  pb::file_entry entry;
  auto& timer = *entry.mutable_tfd();
  timer.set_clockid(CLOCK_MONOTONIC);
  timer.set_isec(1000);
  Fd fd = make_timerfd_kind()->open(entry, {});
  itimerspec left{};
  REQUIRE(::timerfd_gettime(fd.get(), &left) == 0);
  CHECK(left.it_value.tv_sec == 0);
  CHECK(left.it_value.tv_nsec == 0);
}

}  // namespace
}  // namespace godwit::files
