// Post-copy through the commands: dump --lazy-pages serves the frozen memory, a lazy-pages daemon in another
// pid namespace fetches it, restore --lazy-pages starts the program there before its memory has come.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>

#include <filesystem>

#include "engine/images/stats.h"
#include "tests/support/certificates.h"
#include "tests/support/child.h"
#include "tests/support/guest.h"
#include "tests/support/program.h"

namespace godwit::test {
namespace {

using Words = std::vector<std::string>;

Words operator+(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

int status_of(pid_t pid) {
  int status = -1;
  eventually([&] { return ::waitpid(pid, &status, WNOHANG) == pid; });
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::string text_of(const std::string& path) {
  return run({"/bin/cat", path}).output;
}

// Moves the guest, and leaves it running in the namespace of `destination` until that is ended.
void move(Guest& guest, const std::string& port, const Words& source_tls, const Words& destination_tls) {
  pid_t source = start(Words{GODWIT_BUILD_DIR "/criu", "dump", "-t", std::to_string(guest.pid()), "-D",
                             guest.directory(), "-o", "dump.log", "-v4", "--lazy-pages", "--address",
                             "127.0.0.1", "--port", port} +
                       source_tls);
  // The images are there when the inventory is.
  REQUIRE(eventually([&] { return std::filesystem::exists(guest.directory() + "/stats-dump"); }));
  unsigned long frozen_at = guest.rounds();
  pid_t destination =
      start(Words{"/usr/bin/unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "--",
                  GODWIT_SOURCE_DIR "/tests/e2e/post_copy_destination.sh", GODWIT_BUILD_DIR "/criu",
                  guest.path(""), port} +
            destination_tls);
  bool arrived = eventually([&] { return std::filesystem::exists(guest.path("arrived")); });
  std::string log = text_of(guest.path("lazy.log")) + text_of(guest.path("restore.log"));
  INFO(log);
  REQUIRE(arrived);
  CHECK_FALSE(std::filesystem::exists(guest.path("failed")));
  CHECK(status_of(source) == 0);
  reap();
  CHECK_FALSE(is_running(guest.pid()));
  CHECK(guest.rounds() > frozen_at);
  CHECK(guest.goes_on());
  CHECK(guest.failures() == "");
  auto images = images::ImageDirectory::open(guest.directory());
  CHECK(images::read_dump_stats(images).pages_lazy() > 1000);
  end_tree(destination);
}

TEST_CASE("a program runs on at the other side while its memory comes") {
  Guest guest("counter", {"4", "48"});
  move(guest, "27361", {}, {});
}

TEST_CASE("the same over mutual TLS") {
  Guest guest("counter", {"2", "16"});
  CertificateAuthority authority(guest.directory("pki"), "authority");
  auto certificate = authority.issue({.name = "host", .ip_addresses = {"127.0.0.1"}});
  Words tls{"--tls",     "--tls-cacert", authority.certificate(), "--tls-cert", certificate.certificate,
            "--tls-key", certificate.key};
  move(guest, "27362", tls, tls);
}

TEST_CASE("images whose memory was left behind are not restored without --lazy-pages, nor without a daemon") {
  Guest guest("counter", {"1", "8"});
  pid_t source = start({GODWIT_BUILD_DIR "/criu", "dump", "-t", std::to_string(guest.pid()), "-D",
                        guest.directory(), "--lazy-pages", "--address", "127.0.0.1", "--port", "27363"});
  REQUIRE(eventually([&] { return std::filesystem::exists(guest.directory() + "/stats-dump"); }));
  Outcome outcome = criu({"restore", "-D", guest.directory(), "-d"});
  CHECK(outcome.status == 1);
  CHECK(outcome.output.find("--lazy-pages") != std::string::npos);
  outcome = criu({"restore", "-D", guest.directory(), "-d", "--lazy-pages"});
  CHECK(outcome.status == 1);
  CHECK(outcome.output.find("lazy-pages.socket") != std::string::npos);
  // The source is killed while it waits: its tasks run on.
  ::kill(source, SIGKILL);
  ::waitpid(source, nullptr, 0);
  CHECK(guest.goes_on());
  CHECK(guest.failures() == "");
}

}  // namespace
}  // namespace godwit::test
