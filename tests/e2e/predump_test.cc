// Iterative migration of memory: pre-dumps, a final dump on top of them, a restore from the whole chain; into
// directories and through a page server.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/images/image_directory.h"
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

pb::dump_stats_entry statistics_of(const std::string& directory) {
  auto images = images::ImageDirectory::open(directory);
  return images::read_dump_stats(images);
}

// The process that holds the write-protection of a guest between two commands; 0 when there is none.
pid_t holder_of(pid_t pid) {
  std::string title = "holds write-protection of pid " + std::to_string(pid);
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "cmdline");
    std::stringstream text;
    text << file.rdbuf();
    if (text.str().find(title) != std::string::npos) return std::stoi(entry.path().filename());
  }
  return 0;
}

// A guest and the rounds of its migration: pre1, pre2, ... and images, each with the one before as parent.
class Chain {
 public:
  Chain() : guest_("counter", {"4", "48"}) {}
  Guest& guest() { return guest_; }
  std::string directory(int round) { return guest_.directory("round" + std::to_string(round)); }

  Outcome pre_dump(const Words& options = {}) { return next("pre-dump", options); }
  Outcome final_dump(const Words& options = {}) { return next("dump", Words{"--track-mem"} + options); }
  int rounds() const { return round_; }
  pb::dump_stats_entry statistics() { return statistics_of(directory(round_)); }

  void must(const Outcome& outcome) { REQUIRE_MESSAGE(outcome.status == 0, outcome.output); }
  void check_on() {
    CHECK(guest_.goes_on(20));
    CHECK(guest_.failures() == "");
  }
  void restore(const std::string& directory) {
    REQUIRE(eventually([&] {
      reap();
      return ::kill(guest_.pid(), 0) != 0;
    }));
    must(criu({"restore", "-D", directory, "-d", "-o", "restore.log"}));
    // Long enough to look at most of the memory.
    CHECK(guest_.goes_on(300));
    CHECK(guest_.failures() == "");
  }

 private:
  Outcome next(const std::string& command, const Words& options) {
    ++round_;
    Words words{command, "-t", std::to_string(guest_.pid()), "-D", directory(round_), "-o", "dump.log"};
    if (round_ > 1) words = words + Words{"--prev-images-dir", "../round" + std::to_string(round_ - 1)};
    return criu(words + options);
  }
  Guest guest_;
  int round_ = 0;
};

TEST_CASE("pre-dumps ship what changed, and the chain restores") {
  Chain chain;
  chain.must(chain.pre_dump());
  uint64_t all = chain.statistics().pages_written();
  CHECK(all > 8000);
  CHECK(chain.statistics().pages_skipped_parent() == 0);
  for (int i = 0; i < 2; ++i) {
    chain.check_on();
    chain.must(chain.pre_dump());
    CHECK(chain.statistics().pages_skipped_parent() > all / 2);
    CHECK(chain.statistics().pages_written() < all / 2);
    CHECK(eventually([&] { return holder_of(chain.guest().pid()) != 0; }));
  }
  chain.check_on();
  chain.must(chain.final_dump());
  CHECK(chain.statistics().pages_skipped_parent() > all / 2);
  CHECK(chain.statistics().pages_written() < all / 2);
  CHECK(eventually([&] { return holder_of(chain.guest().pid()) == 0; }));
  chain.restore(chain.directory(chain.rounds()));
}

TEST_CASE("a chain goes on over dumps that leave the task running") {
  Chain chain;
  chain.must(chain.pre_dump());
  chain.check_on();
  chain.must(chain.final_dump({"-R"}));
  CHECK(chain.statistics().pages_skipped_parent() > 0);
  chain.check_on();
  chain.must(chain.final_dump());
  CHECK(chain.statistics().pages_skipped_parent() > 0);
  chain.restore(chain.directory(chain.rounds()));
}

TEST_CASE("a holder that was killed costs a full round and nothing else") {
  Chain chain;
  chain.must(chain.pre_dump());
  uint64_t all = chain.statistics().pages_written();
  pid_t holder = 0;
  REQUIRE(eventually([&] { return (holder = holder_of(chain.guest().pid())) != 0; }));
  ::kill(holder, SIGKILL);
  REQUIRE(eventually([&] {
    reap();
    return holder_of(chain.guest().pid()) == 0;
  }));
  chain.check_on();
  chain.must(chain.final_dump());
  CHECK(chain.statistics().pages_skipped_parent() == 0);
  CHECK(chain.statistics().pages_written() >= all / 2);
  chain.restore(chain.directory(chain.rounds()));
}

TEST_CASE("a parent that is not there is named, and the task runs on") {
  Chain chain;
  chain.must(chain.pre_dump());
  std::filesystem::rename(chain.directory(1), chain.guest().path("elsewhere"));
  Words words{"dump",
              "-t",
              std::to_string(chain.guest().pid()),
              "-D",
              chain.guest().directory(),
              "--track-mem",
              "--prev-images-dir",
              "../round1"};
  Outcome outcome = criu(words);
  CHECK(outcome.status == 1);
  CHECK(outcome.output.find("round1") != std::string::npos);
  CHECK_FALSE(std::filesystem::exists(chain.guest().directory() + "/inventory.img"));
  chain.check_on();
  // The chain can be gone on with where it is now.
  words.back() = "../elsewhere";
  chain.must(criu(words));
  // Without its parent the dump is refused, and no process is made.
  std::filesystem::rename(chain.guest().path("elsewhere"), chain.guest().path("lost"));
  outcome = criu({"restore", "-D", chain.guest().directory(), "-d"});
  CHECK(outcome.status == 1);
  CHECK(outcome.output.find("parent") != std::string::npos);
  CHECK_FALSE(is_running(chain.guest().pid()));
  std::filesystem::rename(chain.guest().path("lost"), chain.guest().path("elsewhere"));
  chain.restore(chain.guest().directory());
}

TEST_CASE("a directory cannot be its own parent, and a pre-dump cannot be restored") {
  Chain chain;
  chain.must(chain.pre_dump());
  Outcome outcome = criu({"pre-dump", "-t", std::to_string(chain.guest().pid()), "-D", chain.directory(1),
                          "--prev-images-dir", "."});
  CHECK(outcome.status != 0);
  CHECK(outcome.output.find("parent") != std::string::npos);
  chain.must(chain.pre_dump());
  outcome = criu({"restore", "-D", chain.directory(2), "-d"});
  CHECK(outcome.status == 1);
  CHECK(outcome.output.find("pstree.img") != std::string::npos);
  chain.check_on();
}

// A criu page-server for one connection.
class PageServer {
 public:
  PageServer(const std::string& directory, const Words& options) {
    std::filesystem::remove(directory + "/server.port");
    pid_ =
        start(Words{GODWIT_BUILD_DIR "/criu", "page-server", "-D", directory, "--address", "127.0.0.1",
                    "--port", std::to_string(port_), "-v4", "-o", "server.log", "--pidfile", "server.pid"} +
              options);
    eventually([&] { return std::filesystem::exists(directory + "/server.pid"); });
  }
  PageServer(const PageServer&) = delete;
  PageServer& operator=(const PageServer&) = delete;
  ~PageServer() {
    if (pid_ > 0) ::kill(pid_, SIGKILL);
    status();
  }
  Words client_words() const {
    return {"--page-server", "--address", "127.0.0.1", "--port", std::to_string(port_)};
  }
  int status() {
    int status = 0;
    if (pid_ > 0) ::waitpid(pid_, &status, 0);
    pid_ = 0;
    return status;
  }

 private:
  int port_ = 20000 + ::getpid() % 10000;
  pid_t pid_ = 0;
};

// The small images go beside the pages that the server has stored.
void copy_images(const std::string& from, const std::string& to) {
  for (const auto& file : std::filesystem::directory_iterator(from)) {
    if (file.path().extension() == ".img" && !file.is_symlink())
      std::filesystem::copy_file(file.path(), to + "/" + file.path().filename().string(),
                                 std::filesystem::copy_options::overwrite_existing);
  }
}

void ships_through_server(const Words& server_options, const Words& client_options) {
  Chain chain;
  auto stored = [&](int round) { return chain.guest().directory("server" + std::to_string(round)); };
  for (int round = 1; round <= 3; ++round) {
    Words options = server_options;
    if (round > 1)
      std::filesystem::create_symlink("../server" + std::to_string(round - 1), stored(round) + "/parent");
    PageServer server(stored(round), options);
    Words words = server.client_words() + client_options;
    Outcome outcome = round < 3 ? chain.pre_dump(words) : chain.final_dump(words);
    chain.must(outcome);
    CHECK(server.status() == 0);
    CHECK_FALSE(std::filesystem::exists(chain.directory(round) + "/pages-1.img"));
    if (round > 1) CHECK(chain.statistics().pages_skipped_parent() > chain.statistics().pages_written());
    if (round < 3) chain.check_on();
  }
  copy_images(chain.directory(3), stored(3));
  chain.restore(stored(3));
}

TEST_CASE("a chain through a page server restores from the server's directories") {
  ships_through_server({}, {});
}

TEST_CASE("a chain through a page server with TLS") {
  TemporaryDirectory directory;
  CertificateAuthority authority(directory.path(), "authority");
  auto server = authority.issue({.name = "server", .ip_addresses = {"127.0.0.1"}});
  auto client = authority.issue({.name = "client", .ip_addresses = {"127.0.0.1"}});
  auto words = [&](const CertificateFiles& files) {
    return Words{"--tls",     "--tls-cacert", authority.certificate(), "--tls-cert", files.certificate,
                 "--tls-key", files.key};
  };
  ships_through_server(words(server), words(client));
}

}  // namespace
}  // namespace godwit::test
