// Parsers on text that Linux 6.18 wrote.
#include "engine/kernel/fdinfo.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/epoll.h>

#include "engine/base/error.h"

using namespace godwit;
using namespace godwit::kernel;

TEST_CASE("what every fdinfo has") {
  FdInfo info = parse_fdinfo("pos:\t628\nflags:\t02102001\nmnt_id:\t27\nino:\t10952945\n");
  CHECK(info.position == 628);
  CHECK(info.flags == (O_CLOEXEC | 0100000 | O_APPEND | O_WRONLY));
  CHECK(info.mount_id == 27);
  // /dev/mem and the like have positions that are negative as numbers of C.
  CHECK(parse_fdinfo("pos:\t-1\nflags:\t00\nmnt_id:\t1\n").position == UINT64_MAX);
}

TEST_CASE("eventfd: the count is hexadecimal, the semaphore line is new") {
  EventfdInfo info = parse_eventfd_info(
      "pos:\t0\nflags:\t04002\nmnt_id:\t17\nino:\t1038\neventfd-count:               1f\neventfd-id: "
      "2\neventfd-semaphore: 1\n");
  CHECK(info.count == 0x1f);
  CHECK(info.semaphore);
  CHECK_FALSE(parse_eventfd_info("eventfd-count:                0\n").semaphore);
  CHECK(parse_eventfd_info("eventfd-count: fffffffffffffffe\n").count == 0xfffffffffffffffe);
}

TEST_CASE("timerfd") {
  TimerfdInfo info = parse_timerfd_info(
      "pos:\t0\nflags:\t02\nmnt_id:\t17\nino:\t1038\nclockid: 1\nticks: 3\nsettime flags: 01\nit_value: (99, "
      "999432581)\nit_interval: (1, 5)\n");
  CHECK(info.clock_id == 1);
  CHECK(info.ticks == 3);
  CHECK(info.settime_flags == 1);
  CHECK(info.value_seconds == 99);
  CHECK(info.value_nanoseconds == 999432581);
  CHECK(info.interval_seconds == 1);
  CHECK(info.interval_nanoseconds == 5);
}

TEST_CASE("epoll: targets in their order, one of them a ONESHOT that has fired") {
  auto targets = parse_epoll_targets(
      "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t1038\n"
      "tfd:        3 events:       19 data:                3  pos:0 ino:1427 sdev:f\n"
      "tfd:        6 events: 40000000 data: ffffffff00000006  pos:12 ino:5 sdev:800001\n");
  REQUIRE(targets.size() == 2);
  CHECK(targets[0].number == 3);
  CHECK(targets[0].events == (EPOLLIN | EPOLLERR | EPOLLHUP));
  CHECK(targets[0].inode == 0x1427);
  CHECK(targets[0].device == 0xf);
  CHECK(targets[1].number == 6);
  CHECK(targets[1].events == EPOLLONESHOT);
  CHECK(targets[1].data == 0xffffffff00000006);
  CHECK(targets[1].position == 12);
  CHECK(targets[1].device == 0x800001);
  CHECK(parse_epoll_targets("pos:\t0\n").empty());
}

TEST_CASE("text of another kind is refused") {
  CHECK_THROWS_AS(parse_fdinfo(""), FormatError);
  CHECK_THROWS_AS(parse_fdinfo("pos:\tx\nflags:\t0\nmnt_id:\t0\n"), FormatError);
  CHECK_THROWS_AS(parse_eventfd_info("pos:\t0\n"), FormatError);
  CHECK_THROWS_AS(parse_eventfd_info("eventfd-count: 1ffffffffffffffff\n"), FormatError);
  std::string timer = "clockid: 1\nticks: 0\nsettime flags: 00\nit_value: ";
  CHECK_THROWS_AS(parse_timerfd_info(timer + "(1, 1000000000)\nit_interval: (0, 0)\n"), FormatError);
  CHECK_THROWS_AS(parse_timerfd_info(timer + "1, 2\nit_interval: (0, 0)\n"), FormatError);
  CHECK_THROWS_AS(parse_timerfd_info(timer + "(1, 2)\n"), FormatError);
  CHECK_THROWS_AS(parse_epoll_targets("tfd:        3 events:       19\n"), FormatError);
  CHECK_THROWS_AS(parse_epoll_targets("tfd: 3 data: 1 events: 1  pos:0 ino:1 sdev:f\n"), FormatError);
}
