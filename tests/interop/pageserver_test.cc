// Page servers and their clients of both implementations, plain and TLS. Runs in the VM, see README.md.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>

#include <filesystem>

#include "tests/interop/stock.h"
#include "tests/support/certificates.h"
#include "tests/support/child.h"

namespace godwit::test {
namespace {

namespace fs = std::filesystem;
constexpr unsigned short kPort = 27100;
const std::vector<std::string> kPlace{"--address", "127.0.0.1", "--port", std::to_string(kPort)};

using Words = std::vector<std::string>;
Words operator+(Words left, const Words& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

// A page server that takes one dump; killed at the end of the scope if it has not ended by then.
class Server {
 public:
  Server(const std::string& program, const std::string& directory, const Words& options)
      : directory_(directory),
        pid_(start(Words{program, "page-server", "-D", directory, "-v4", "-o", "server.log"} + kPlace +
                   options)) {
    wait_for_listener(kPort);
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() { end_tree(pid_); }

  // Waits for its end and puts what it received beside the other images.
  void hand_over(const std::string& images) {
    CHECK(eventually([&] {
      reap();
      return !is_running(pid_);
    }));
    for (const auto& entry : fs::directory_iterator(directory_)) {
      if (entry.path().extension() == ".img") fs::copy(entry.path(), images);
    }
  }

 private:
  std::string directory_;
  pid_t pid_;
};

// A dump by one program into the page server of the other, restored by the one that restores.
void ships(const std::string& dumper, const std::string& server_program, const Words& dump_options,
           const Words& both_options = {}) {
  Guest guest("counter", {"2", "8"});
  Server server(server_program, guest.directory("pages"), both_options);
  dump_with(dumper, guest, Words{"--page-server"} + kPlace + dump_options + both_options);
  CHECK(bytes_of_pages(guest.directory()) == 0);
  server.hand_over(guest.directory());
  restore_with(kOurs, guest);
  CHECK(guest.failures() == "");
}

class TlsFiles {
 public:
  TlsFiles() : authority_(directory_.path(), "authority") {
    CertificateRequest request{.name = "both", .dns_names = {}, .ip_addresses = {"127.0.0.1"}};
    files_ = authority_.issue(request);
  }
  Words options() {
    return {"--tls",     "--tls-cacert", authority_.certificate(), "--tls-cert", files_.certificate,
            "--tls-key", files_.key};
  }

 private:
  TemporaryDirectory directory_;
  CertificateAuthority authority_;
  CertificateFiles files_;
};

TEST_CASE("stock dump, our page server") {
  ships(kStock, kOurs, {});
}
TEST_CASE("stock dump, our page server, TLS") {
  TlsFiles tls;
  ships(kStock, kOurs, {}, tls.options());
}
TEST_CASE("our dump in the short layout, stock page server") {
  ships(kOurs, kStock, {"--ps-layout", "short"});
}
TEST_CASE("our dump that finds the layout by itself, stock page server") {
  ships(kOurs, kStock, {});
}
TEST_CASE("our dump in the short layout, stock page server, TLS") {
  TlsFiles tls;
  ships(kOurs, kStock, {"--ps-layout", "short"}, tls.options());
}
// The server looks for the parent's pages in its own directory, and is asked whether it has them.
void ships_a_chain(const std::string& dumper, const std::string& server_program, const Words& options = {}) {
  Guest guest("counter", {"2", "4"});
  std::string pid = std::to_string(guest.pid());
  Words place = Words{"--page-server"} + kPlace + options;
  std::string pre = guest.directory("pre1"), pages = guest.directory("pages1");
  {
    Server server(server_program, pages, {});
    run_well(dumper, Words{"pre-dump", "-t", pid, "-D", pre} + place);
    server.hand_over(pre);
  }
  std::string delta = guest.directory("pages2");
  fs::create_symlink("../pages1", delta + "/parent");
  Server server(server_program, delta, {});
  dump_with(dumper, guest, Words{"--track-mem", "--prev-images-dir", "../pre1"} + place);
  server.hand_over(guest.directory());
  CHECK(bytes_of_pages(guest.directory()) < bytes_of_pages(pre));
  restore_with(kOurs, guest);
  CHECK(guest.failures() == "");
}

TEST_CASE("stock pre-dump and dump on it, our page server") {
  ships_a_chain(kStock, kOurs);
}
TEST_CASE("our pre-dump and dump on it, stock page server") {
  ships_a_chain(kOurs, kStock, {"--ps-layout", "short"});
}

}  // namespace
}  // namespace godwit::test
