#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/memory/arming_registry.h"
#include "engine/memory/in_flight_io.h"
#include "tests/support/temporary_directory.h"

namespace godwit::memory {
namespace {

ArmingRecord sample() {
  return {"boot-1", "token-1", {{42, 1000, 0x7ffc00001000}, {43, 1001, 0x7ffd00001000}}};
}

TEST_CASE("a tracking record reads back as it was written") {
  ArmingRecord read = parse_record(format_record(sample()));
  CHECK(read.boot_id == "boot-1");
  CHECK(read.token == "token-1");
  CHECK(read.processes == sample().processes);
}

TEST_CASE("a damaged tracking record is refused, wherever it is cut") {
  std::string whole = format_record(sample());
  CHECK_THROWS_AS(parse_record(""), FormatError);
  CHECK_THROWS_AS(parse_record("godwit-tracking 2\n" + whole.substr(18)), FormatError);
  CHECK_THROWS_AS(parse_record(whole + "process 1 x 2\n"), FormatError);
  CHECK_THROWS_AS(parse_record(whole + "process 1 2\n"), FormatError);
  CHECK_THROWS_AS(parse_record(whole + "something else\n"), FormatError);
  CHECK_THROWS_AS(parse_record(whole.substr(0, whole.find("token"))), FormatError);
}

TEST_CASE("a record counts only in the boot that it was written in") {
  test::TemporaryDirectory dir;
  auto images = images::ImageDirectory::open(dir.path());
  CHECK_FALSE(read_record(images));
  ArmingRecord record = sample();
  write_record(images, record);
  CHECK_FALSE(read_record(images));
  record.boot_id = current_boot_id();
  write_record(images, record);
  auto read = read_record(images);
  REQUIRE(read);
  CHECK(read->token == "token-1");
  CHECK(std::distance(std::filesystem::directory_iterator(dir.path()), {}) == 1);
}

TEST_CASE("the registry tells who armed a process last") {
  test::TemporaryDirectory dir;
  ProcessIdentity self = identity_of(::getpid());
  {
    auto registry = ArmingRegistry::open(dir / "registry");
    CHECK_FALSE(registry.last(self));
    registry.set_last(self, "one");
    registry.set_last(self, "two");
    CHECK(registry.last(self) == "two");
  }
  auto again = ArmingRegistry::open(dir / "registry");
  CHECK(again.last(self) == "two");
  ProcessIdentity later = self;
  ++later.start_time;
  CHECK_FALSE(again.last(later));
}

TEST_CASE("the registry forgets processes that have ended, and only those") {
  test::TemporaryDirectory dir;
  ProcessIdentity self = identity_of(::getpid());
  ProcessIdentity ended = self;
  --ended.start_time;  // the number is in use again
  {
    auto registry = ArmingRegistry::open(dir / "registry");
    registry.set_last(self, "mine");
    registry.set_last(ended, "its");
    Fd other = open_at(AT_FDCWD, dir / "registry/README", O_CREAT | O_WRONLY, 0600);
  }
  auto registry = ArmingRegistry::open(dir / "registry");
  CHECK(registry.last(self) == "mine");
  CHECK_FALSE(registry.last(ended));
  CHECK(std::filesystem::exists(dir / "registry/README"));
}

TEST_CASE("a registry that others may write to is not believed") {
  test::TemporaryDirectory dir;
  REQUIRE(::mkdir((dir / "open").c_str(), 0700) == 0);
  REQUIRE(::chmod((dir / "open").c_str(), 0777) == 0);
  CHECK_THROWS_AS(ArmingRegistry::open(dir / "open"), Error);
  REQUIRE(::symlink("open", (dir / "link").c_str()) == 0);
  CHECK_THROWS_AS(ArmingRegistry::open(dir / "link"), Error);
}

TEST_CASE("rings of asynchronous I/O are found among the mappings, by their whole name only") {
  const std::string heap = "55d0c000-55d0d000 rw-p 00000000 00:00 0                          [heap]\n";
  CHECK(in_flight_io_of_maps("").empty());
  CHECK(in_flight_io_of_maps(heap + "7f0000000000-7f0000001000 rw-p 00000000 00:00 0 \n").empty());
  CHECK(in_flight_io_of_maps(heap + "7f0000000000-7f0000001000 rw-s 00000000 00:0e 7   /[aio] (deleted)\n") ==
        "an AIO ring");
  CHECK(in_flight_io_of_maps(
            heap + "7f0000000000-7f0000001000 rw-s 00000000 00:0f 1050      anon_inode:[io_uring]\n" +
            heap) == "an io_uring");
  CHECK(in_flight_io_of_maps("7f0000000000-7f0000001000 r--p 00000000 08:01 9   /srv/x /[aio]\n").empty());
}

TEST_CASE("memory that is pinned for a device is found in the status") {
  CHECK(in_flight_io_of_status("Name:\tx\nVmPin:\t       0 kB\nVmHWM:\t 4 kB\n").empty());
  CHECK(in_flight_io_of_status("Name:\tx\nVmPin:\t    2048 kB\n") == "2048 kB pinned for a device");
  CHECK(in_flight_io_of_status("Name:\tkthread\n").empty());
}

}  // namespace
}  // namespace godwit::memory
