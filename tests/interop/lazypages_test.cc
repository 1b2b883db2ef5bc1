// Post-copy with the page server, the daemon and the restore from both implementations. Runs in the VM, see
// README.md.
#include <doctest/doctest.h>
#include <sys/wait.h>

#include "tests/interop/stock.h"
#include "tests/support/child.h"

namespace godwit::test {
namespace {

constexpr unsigned short kPort = 27200;

// The source keeps its pages and serves them to a daemon, which brings them to the restored guest: all in one
// VM, so the guest comes back in another pid namespace.
void moves_lazily(const std::string& dumper, const std::string& daemon, const std::string& restorer) {
  Guest guest("counter", {"2", "8"});
  auto tree = tree_of(guest.pid());
  std::string port = std::to_string(kPort), images = guest.directory();
  pid_t source = start({dumper, "dump", "-t", std::to_string(guest.pid()), "-D", images, "--lazy-pages",
                        "--address", "127.0.0.1", "--port", port, "-v4", "-o", "dump.log"});
  wait_for_listener(kPort);
  unsigned long dumped_at = guest.rounds();
  CHECK(bytes_of_pages(images) < 4 << 20);  // most of the 8 MiB are still with the source
  pid_t elsewhere =
      start({GODWIT_SOURCE_DIR "/tests/interop/restore_elsewhere.sh", daemon, restorer, images, port});
  bool ran_on = eventually([&] { return guest.rounds() > dumped_at + 3; });
  if (!ran_on) {
    MESSAGE("dump: " << errors_in(images + "/dump.log"));
    MESSAGE("daemon: " << errors_in(images + "/lazy-pages.log"));
    MESSAGE("restore: " << errors_in(images + "/restore.log"));
  }
  CHECK(ran_on);
  // With the last page the source has done its work, and its copy ends.
  if (ran_on) {
    int status = -1;
    CHECK(eventually([&] { return ::waitpid(source, &status, WNOHANG) == source; }));
    CHECK(status == 0);
    wait_until_gone(tree);
    CHECK(guest.goes_on(20));
    CHECK(guest.failures() == "");
  }
  end_tree(elsewhere);
  end_tree(source);
}

TEST_CASE("lazy: our dump, our daemon, our restore") {
  moves_lazily(kOurs, kOurs, kOurs);
}
TEST_CASE("lazy: our dump, stock daemon and restore") {
  moves_lazily(kOurs, kStock, kStock);
}
TEST_CASE("lazy: stock dump, our daemon and restore") {
  moves_lazily(kStock, kOurs, kOurs);
}
TEST_CASE("lazy: stock dump, stock daemon, our restore") {
  moves_lazily(kStock, kStock, kOurs);
}
TEST_CASE("lazy: our dump, our daemon, stock restore") {
  moves_lazily(kOurs, kOurs, kStock);
}

}  // namespace
}  // namespace godwit::test
