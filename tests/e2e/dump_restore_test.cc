// Programs that check themselves are dumped, killed and restored; afterwards they must go on and find nothing
// changed.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>

#include <fstream>

#include "engine/images/image_directory.h"
#include "engine/images/stats.h"
#include "proto/images/inventory.pb.h"
#include "tests/support/child.h"
#include "tests/support/guest.h"
#include "tests/support/program.h"

namespace godwit::test {
namespace {

void survives(const std::string& name, const std::vector<std::string>& arguments, int moves = 2) {
  Guest guest(name, arguments);
  for (int move = 0; move < moves; ++move) {
    guest.dump();
    guest.restore();
    CHECK(guest.goes_on());
  }
  CHECK(guest.failures() == "");
}

TEST_CASE("a single thread and its memory come back") {
  survives("counter", {"1", "32"}, 5);
}
TEST_CASE("eight threads come back") {
  survives("counter", {"8", "8"}, 3);
}
TEST_CASE("a hundred threads come back") {
  survives("counter", {"100", "4"});
}
TEST_CASE("open files, pipes, epoll, eventfd, timerfd and sockets come back") {
  survives("files", {}, 3);
}
TEST_CASE("signals, credentials, limits, timers and names come back") {
  survives("state", {}, 3);
}
TEST_CASE("a tree with groups, sessions, zombies and a stopped child comes back") {
  survives("tree", {}, 3);
}

TEST_CASE("with --leave-running the task runs on, and the images are whole") {
  Guest guest("counter", {"4", "8"});
  Outcome outcome =
      criu({"dump", "-t", std::to_string(guest.pid()), "-D", guest.directory(), "--leave-running"});
  REQUIRE(outcome.status == 0);
  CHECK(guest.goes_on());
  CHECK(guest.failures() == "");
  auto images = images::ImageDirectory::open(guest.directory());
  CHECK(images.read_inventory().img_version() == 2);
  CHECK(images::read_dump_stats(images).pages_written() > 1000);
}

TEST_CASE("with --leave-stopped the task is stopped, and goes on with SIGCONT") {
  Guest guest("counter", {"2", "1"});
  Outcome outcome = criu({"dump", "-t", std::to_string(guest.pid()), "-D", guest.directory(), "-s"});
  REQUIRE(outcome.status == 0);
  unsigned long stopped_at = guest.rounds();
  ::usleep(100000);
  CHECK(guest.rounds() == stopped_at);
  ::kill(guest.pid(), SIGCONT);
  CHECK(guest.goes_on());
  CHECK(guest.failures() == "");
}

TEST_CASE("without -d restore stays the parent and ends as the root task ends") {
  Guest guest("counter", {"1", "1"});
  guest.dump();
  Outcome outcome;
  {
    pid_t waiter = start({GODWIT_BUILD_DIR "/criu", "restore", "-D", guest.directory(), "-o", "r.log"});
    REQUIRE(guest.goes_on());
    ::kill(guest.pid(), SIGTERM);
    int status = 0;
    REQUIRE(::waitpid(waiter, &status, 0) == waiter);
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 128 + SIGTERM);
  }
}

TEST_CASE("the pid file names the root task, and stats-restore is written") {
  Guest guest("counter", {"1", "1"});
  guest.dump();
  guest.restore({"--pidfile", "root.pid"});
  std::ifstream file(guest.directory() + "/root.pid");
  pid_t pid = 0;
  file >> pid;
  CHECK(pid == guest.pid());
  auto images = images::ImageDirectory::open(guest.directory());
  CHECK(images::read_restore_stats(images).pages_restored() > 0);
  CHECK(guest.goes_on());
}

TEST_CASE("a restore lists every obstacle before it creates a process") {
  Guest guest("files");
  guest.dump();
  std::filesystem::remove(guest.path("report.log"));
  std::filesystem::resize_file(guest.path("report.data"), 3);
  Outcome outcome = criu({"restore", "-D", guest.directory(), "-d"});
  CHECK(outcome.status == 1);
  CHECK(outcome.output.find("report.log") != std::string::npos);
  CHECK(outcome.output.find("report.data") != std::string::npos);
  CHECK_FALSE(is_running(guest.pid()));
}

TEST_CASE("a pid that is taken is named") {
  Guest guest("counter", {"1", "1"});
  Outcome outcome = criu({"dump", "-t", std::to_string(guest.pid()), "-D", guest.directory(), "-R"});
  REQUIRE(outcome.status == 0);
  outcome = criu({"restore", "-D", guest.directory(), "-d"});
  CHECK(outcome.status == 1);
  CHECK(outcome.output.find("pid " + std::to_string(guest.pid()) + " is taken by counter") !=
        std::string::npos);
  CHECK(guest.goes_on());
}

TEST_CASE("bad input gives one clear line, and the workload runs on") {
  Guest guest("counter", {"1", "1"});
  Outcome outcome = criu({"dump", "-t", "4194303", "-D", guest.directory()});
  CHECK(outcome.status == 1);
  CHECK(outcome.output.find("no such process") != std::string::npos);
  outcome = criu({"dump", "-t", std::to_string(guest.pid()), "-D", "/no/such/directory"});
  CHECK(outcome.status == 1);
  CHECK(outcome.output.find("/no/such/directory") != std::string::npos);
  outcome = criu({"restore", "-D", guest.directory()});
  CHECK(outcome.status == 1);
  CHECK(outcome.output.find("inventory.img") != std::string::npos);
  CHECK(guest.goes_on());
  CHECK(guest.failures() == "");
}

TEST_CASE("a full disk fails the dump, leaves no inventory, and the workload runs on") {
  Guest guest("counter", {"2", "32"});
  std::string small = guest.directory("small");
  if (run({"/bin/mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small}).status != 0) return;
  Outcome outcome = criu({"dump", "-t", std::to_string(guest.pid()), "-D", small});
  CHECK(outcome.status == 1);
  CHECK(outcome.output.find("No space left on device") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(small + "/inventory.img"));
  CHECK_FALSE(std::filesystem::exists(small + "/pages-1.img"));
  run({"/bin/umount", small});
  CHECK(guest.goes_on());
  CHECK(guest.failures() == "");
}

}  // namespace
}  // namespace godwit::test
