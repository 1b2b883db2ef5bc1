// Bad input: one clear line that names the thing, a status that is not zero, the workload running, nothing
// that looks like a dump.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>

#include "tests/support/certificates.h"
#include "tests/support/child.h"
#include "tests/support/guest.h"
#include "tests/support/program.h"
#include "tests/support/skip.h"

namespace godwit::test {
namespace {

using Words = std::vector<std::string>;

Words operator+(Words words, const Words& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

// A TCP socket of this test that listens on loopback.
class Listening {
 public:
  Listening() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    if (::bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(socket_, 8) != 0 ||
        ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &length) != 0)
      throw std::runtime_error("no listening socket");
    port_ = std::to_string(ntohs(address.sin_port));
  }
  Listening(const Listening&) = delete;
  Listening& operator=(const Listening&) = delete;
  ~Listening() { ::close(socket_); }
  const std::string& port() const { return port_; }
  int socket() const { return socket_; }

 private:
  int socket_;
  std::string port_;
};

Words dump_words(Guest& guest) {
  return {"dump", "-t", std::to_string(guest.pid()), "-D", guest.directory()};
}

// The dump fails with words that hold `named`, and the guest goes on as if nothing had been.
void refuses_dump(Guest& guest, const Words& options, const std::string& named) {
  CAPTURE(named);
  Outcome outcome = criu(dump_words(guest) + options);
  CHECK(outcome.status == 1);
  CHECK_MESSAGE(outcome.output.find(named) != std::string::npos, outcome.output);
  CHECK_FALSE(std::filesystem::exists(guest.directory() + "/inventory.img"));
  CHECK(guest.goes_on());
  CHECK(guest.failures() == "");
}

TEST_CASE("no page server, or a port that is taken") {
  Guest guest("counter", {"2", "4"});
  std::string free;
  {
    Listening taken;
    Outcome outcome =
        criu({"page-server", "-D", guest.directory(), "--address", "127.0.0.1", "--port", taken.port()});
    CHECK(outcome.status == 1);
    CHECK(outcome.output.find(taken.port()) != std::string::npos);
    CHECK(outcome.output.find("Address already in use") != std::string::npos);
    free = taken.port();
  }
  refuses_dump(guest, {"--page-server", "--address", "127.0.0.1", "--port", free}, free);
}

TEST_CASE("a peer that is not a page server") {
  Guest guest("counter", {"2", "4"});
  for (const char* answer :
       {"", "HTTP/1.0 400 Bad Request\r\n\r\nwhat do you want of me, and who are you?\n"}) {
    Listening listening;
    Child garbage([&] {
      for (;;) {
        int peer = ::accept(listening.socket(), nullptr, nullptr);
        char buffer[64];
        if (::read(peer, buffer, sizeof buffer) >= 0 && ::write(peer, answer, strlen(answer)) >= 0)
          ::close(peer);
      }
    });
    refuses_dump(guest, {"--page-server", "--address", "127.0.0.1", "--port", listening.port()}, "127.0.0.1");
  }
}

TEST_CASE("a certificate of somebody else") {
  TemporaryDirectory directory;
  CertificateAuthority ours(directory.path(), "ours"), theirs(directory.path(), "theirs");
  auto server = ours.issue({.name = "server", .ip_addresses = {"127.0.0.1"}});
  auto client = ours.issue({.name = "client"});
  auto stranger = theirs.issue({.name = "stranger"});
  auto tls = [](const std::string& authority, const CertificateFiles& files) {
    return Words{"--tls", "--tls-cacert", authority, "--tls-cert", files.certificate, "--tls-key", files.key};
  };
  Guest guest("counter", {"2", "4"});
  struct Pairing {
    Words server, client;
    std::string named;
  };
  const Pairing pairings[] = {
      {tls(ours.certificate(), server), tls(theirs.certificate(), client),
       "certificate"},  // does not know the server
      {tls(ours.certificate(), server), tls(ours.certificate(), stranger), "TLS"},  // is not known to it
      {tls(ours.certificate(), server), {}, "127.0.0.1"},                           // speaks no TLS
  };
  for (const auto& pairing : pairings) {
    std::string port;
    {
      Listening free;
      port = free.port();
    }
    std::string stored = guest.directory("stored");
    std::filesystem::remove(stored + "/server.pid");
    pid_t page_server =
        start(Words{GODWIT_BUILD_DIR "/criu", "page-server", "-D", stored, "--address", "127.0.0.1", "--port",
                    port, "--pidfile", "server.pid", "-o", "server.log"} +
              pairing.server);
    REQUIRE(eventually([&] { return std::filesystem::exists(stored + "/server.pid"); }));
    refuses_dump(guest, Words{"--page-server", "--address", "127.0.0.1", "--port", port} + pairing.client,
                 pairing.named);
    int status = 0;
    CHECK(eventually([&] { return ::waitpid(page_server, &status, WNOHANG) == page_server; }));
    CHECK(status != 0);
  }
  refuses_dump(guest,
               Words{"--page-server", "--address", "127.0.0.1", "--port", "1"} +
                   tls(ours.certificate(), {"/no/such/certificate.pem", "/no/such/key.pem"}),
               "/no/such/");
}

TEST_CASE("no permission") {
  Guest guest("counter", {"1", "1"});
  std::string directory = guest.directory();
  std::filesystem::permissions(directory, std::filesystem::perms::all);
  Outcome outcome = run({"/usr/bin/env", "HOME=/nonexistent", "/usr/bin/setpriv", "--reuid=65534",
                         "--regid=65534", "--clear-groups", GODWIT_BUILD_DIR "/criu", "dump", "-t",
                         std::to_string(guest.pid()), "-D", directory});
  CHECK(outcome.status == 1);
  CHECK_MESSAGE(outcome.output.find(std::to_string(guest.pid())) != std::string::npos, outcome.output);
  CHECK_FALSE(std::filesystem::exists(directory + "/inventory.img"));
  CHECK(guest.goes_on());
}

TEST_CASE("a target that is traced already names its tracer") {
  Guest guest("counter", {"1", "1"});
  Child tracer([&] {
    ::syscall(SYS_ptrace, 0x4206 /* PTRACE_SEIZE */, guest.pid(), 0, 0);
    for (;;) ::pause();
  });
  REQUIRE(eventually([&] {
    std::ifstream file("/proc/" + std::to_string(guest.pid()) + "/status");
    for (std::string line; std::getline(file, line);) {
      if (line == "TracerPid:\t" + std::to_string(tracer.pid())) return true;
    }
    return false;
  }));
  refuses_dump(guest, {}, std::to_string(tracer.pid()));
}

TEST_CASE("a target that ends during the dump: a clear failure or a whole dump, and never a hang") {
  std::mt19937 random(11);
  int failed = 0, dumped = 0;
  for (int i = 0; i < 25; ++i) {
    CAPTURE(i);
    Guest guest("counter", {"8", "8"});
    pid_t pid = guest.pid();
    auto moment = static_cast<useconds_t>(random() % 40'000);
    Child killer([=] {
      ::usleep(moment);
      ::kill(pid, i % 2 == 0 ? SIGKILL : SIGTERM);
    });
    Outcome outcome = criu(dump_words(guest), 30);
    REQUIRE(outcome.status <= 1);
    bool whole = std::filesystem::exists(guest.directory() + "/inventory.img");
    CHECK(whole == (outcome.status == 0));
    if (outcome.status == 0) {
      ++dumped;
    } else {
      ++failed;
      CHECK_MESSAGE(outcome.output.find(std::to_string(pid)) != std::string::npos, outcome.output);
    }
  }
  MESSAGE("of 25 dumps of a program that ended meanwhile " << dumped << " were whole, " << failed
                                                           << " failed");
  CHECK(failed > 0);
}

// A guest's complete dump in a directory, of which tests damage copies.
class Damaged {
 public:
  Damaged(const std::string& name, const Words& arguments) : guest_(name, arguments) {
    guest_.dump();
    std::filesystem::remove(guest_.directory() + "/dump.log");
    for (const auto& file : std::filesystem::directory_iterator(guest_.directory()))
      files_.push_back(file.path().filename());
    std::sort(files_.begin(), files_.end());
  }
  Guest& guest() { return guest_; }
  const std::vector<std::string>& files() const { return files_; }
  std::string fresh_copy() {
    std::string copy = guest_.path("copy");
    std::filesystem::remove_all(copy);
    std::filesystem::copy(guest_.directory(), copy);
    return copy;
  }
  // A restore of the copy must be refused with the name of the file, and make no process.
  void refuses(const std::string& copy, const std::string& file) {
    Outcome outcome = criu({"restore", "-D", copy, "-d"}, 60);
    CHECK(outcome.status == 1);
    CHECK_MESSAGE(outcome.output.find(file) != std::string::npos, outcome.output);
    REQUIRE(::kill(guest_.pid(), 0) != 0);
  }
  void still_restores() {
    guest_.restore();
    CHECK(guest_.goes_on());
    CHECK(guest_.failures() == "");
  }

 private:
  Guest guest_;
  std::vector<std::string> files_;
};

bool is_needed(const std::string& file) {
  // Statistics are for people; what is left says so itself.
  return file.ends_with(".img") && !file.starts_with("stats-");
}

TEST_CASE("an image directory from which any file is missing is refused by that file's name") {
  for (std::string name : {"files", "counter"}) {
    Damaged damaged(name, name == "counter" ? Words{"3", "1"} : Words{});
    for (const auto& file : damaged.files()) {
      if (!is_needed(file)) continue;
      // Also written into the core, as CRIU does.
      if (file.starts_with("ids-")) continue;
      // The format cannot tell "no bytes in any pipe" from this.
      if (file == "pipes-data.img") continue;
      CAPTURE(file);
      std::string copy = damaged.fresh_copy();
      std::filesystem::remove(copy + "/" + file);
      damaged.refuses(copy, file);
    }
    damaged.still_restores();
  }
}

// Where the records of an image end, and its head.
std::set<uintmax_t> record_ends(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::set<uintmax_t> ends{8};
  file.seekg(8);
  for (uint32_t size; file.read(reinterpret_cast<char*>(&size), sizeof size);) {
    file.seekg(size, std::ios::cur);
    ends.insert(static_cast<uintmax_t>(file.tellg()));
  }
  return ends;
}

TEST_CASE("images that were cut off anywhere are refused by the file's name") {
  Damaged damaged("files", {});
  std::mt19937 random(5);
  for (const auto& file : damaged.files()) {
    if (!is_needed(file) || file.starts_with("ids-")) continue;
    CAPTURE(file);
    auto size = std::filesystem::file_size(damaged.guest().directory() + "/" + file);
    std::vector<uintmax_t> lengths{0, 3, 4, 7, 8, 9, 11, 12, size / 2, size - 1};
    lengths.push_back(random() % size);
    auto ends = record_ends(damaged.guest().directory() + "/" + file);
    for (uintmax_t length : lengths) {
      // What ends between two records looks like a smaller image.
      if (length >= size || ends.contains(length)) continue;
      CAPTURE(length);
      std::string copy = damaged.fresh_copy();
      std::filesystem::resize_file(copy + "/" + file, length);
      Outcome outcome = criu({"restore", "-D", copy, "-d"}, 60);
      CHECK(outcome.status == 1);
      CHECK_FALSE(outcome.output.empty());
      if (length < 8) CHECK_MESSAGE(outcome.output.find(file) != std::string::npos, outcome.output);
      REQUIRE(::kill(damaged.guest().pid(), 0) != 0);
    }
  }
  damaged.still_restores();
}

TEST_CASE("images with flipped bytes are refused or restored, and nothing is left of a failure") {
  Damaged damaged("files", {});
  std::mt19937 random(17);
  int refused = 0, restored = 0;
  for (int i = 0; i < 60; ++i) {
    CAPTURE(i);
    std::string copy = damaged.fresh_copy();
    std::string file;
    do {
      file = damaged.files()[random() % damaged.files().size()];
    } while (!is_needed(file) || file.starts_with("pages-"));
    CAPTURE(file);
    std::fstream stream(copy + "/" + file, std::ios::in | std::ios::out | std::ios::binary);
    auto size = std::filesystem::file_size(copy + "/" + file);
    stream.seekp(static_cast<std::streamoff>(8 + random() % (size - 8)));
    stream.put(static_cast<char>(random()));
    stream.close();
    Outcome outcome = criu({"restore", "-D", copy, "-d", "--leave-stopped"}, 60);
    REQUIRE(outcome.status <= 1);
    ++(outcome.status == 0 ? restored : refused);
    if (outcome.status == 1) {
      CHECK_FALSE(outcome.output.empty());
      CHECK(::kill(damaged.guest().pid(), 0) != 0);
    } else {
      // The pid itself may be what was changed.
      for (pid_t child : tree_of(::getpid())) {
        if (child != ::getpid() && is_running(child)) end_tree(child);
      }
    }
    reap();
  }
  MESSAGE(refused << " refused, " << restored << " restored");
  damaged.still_restores();
}

}  // namespace
}  // namespace godwit::test
