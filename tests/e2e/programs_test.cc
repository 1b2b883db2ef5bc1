// Real programs and guests with unusual memory are moved; /proc must say the same of them afterwards.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "tests/support/child.h"
#include "tests/support/guest.h"
#include "tests/support/proc_picture.h"
#include "tests/support/program.h"
#include "tests/support/skip.h"

namespace godwit::test {
namespace {

void criu_must(const std::vector<std::string>& words) {
  Outcome outcome = criu(words);
  if (outcome.status != 0) throw std::runtime_error("criu " + words[0] + ": " + outcome.output);
}

// Waits until no thread of these processes runs.
void wait_until_stopped(const std::vector<pid_t>& tree) {
  CHECK(eventually([&] {
    for (pid_t pid : tree) {
      for (const auto& task : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
        std::ifstream file(task.path() / "stat");
        std::string text;
        std::getline(file, text);
        if (size_t name = text.rfind(") "); std::string("TZ").find(text[name + 2]) == std::string::npos)
          return false;
      }
    }
    return true;
  }));
}

// Moves a tree and compares what /proc says of each of its processes at the very moment of the dump with the
// moment of the restore; then it runs on.
std::string move_and_compare(pid_t root, const std::string& directory) {
  criu_must({"dump", "-t", std::to_string(root), "-D", directory, "-s", "-o", "dump.log"});
  auto tree = tree_of(root);
  wait_until_stopped(tree);
  std::map<pid_t, std::map<std::string, std::string>> before;
  for (pid_t pid : tree) {
    if (is_running(pid)) before[pid] = proc_picture(pid);
  }
  end_tree(root);
  eventually([&] {
    reap();
    return std::none_of(tree.begin(), tree.end(), [](pid_t pid) { return ::kill(pid, 0) == 0; });
  });
  criu_must({"restore", "-D", directory, "-d", "-s", "-o", "restore.log"});
  wait_until_stopped(tree);
  std::string differences;
  for (const auto& [pid, picture] : before) differences += difference(picture, proc_picture(pid));
  for (pid_t pid : tree) ::kill(pid, SIGCONT);
  return differences;
}

void looks_the_same(const std::string& name, const std::vector<std::string>& arguments) {
  CAPTURE(name);
  Guest guest(name, arguments);
  std::ofstream(guest.path("report.restored")) << "restored\n";
  for (int move = 0; move < 2; ++move) CHECK(move_and_compare(guest.pid(), guest.directory()) == "");
  CHECK(guest.goes_on());
  CHECK(guest.failures() == "");
}

TEST_CASE("/proc says the same of a program before and after: memory areas, advice, stacks, locks") {
  looks_the_same("memory", {});
}
TEST_CASE("/proc says the same of a program before and after: threads") {
  looks_the_same("counter", {"8", "8"});
  looks_the_same("threads", {"sleeping"});
  looks_the_same("threads", {"filtered-kill"});
}
TEST_CASE("/proc says the same of a program before and after: files") {
  looks_the_same("files", {});
}
TEST_CASE("/proc says the same of a program before and after: signals, credentials, limits, names") {
  looks_the_same("state", {});
}

TEST_CASE(
    "hidden, private, shared, locked, advised, reserved and growing memory, rseq, vdso and robust mutexes") {
  Guest guest("memory", {"many-descriptors"});
  for (int move = 0; move < 3; ++move) {
    guest.dump();
    guest.restore();
    CHECK(guest.goes_on());
    // The stack grows deeper than ever, and the robust mutex's holder dies.
    std::ofstream(guest.path("report.deep")) << "go\n";
    CHECK(eventually([&] { return !std::filesystem::exists(guest.path("report.deep")); }));
    CHECK(guest.goes_on());
  }
  CHECK(guest.failures() == "");
}

// A program that is no guest, with a directory of its own; ended with everything below it.
class Program {
 public:
  explicit Program(const std::vector<std::string>& words) {
    become_reaper();
    pid_ = start(words);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;
  ~Program() { end_tree(pid_); }
  pid_t pid() const { return pid_; }

  void move(const std::string& directory, const std::vector<std::string>& more = {}) {
    auto with = [&](std::vector<std::string> words) {
      words.insert(words.end(), more.begin(), more.end());
      return words;
    };
    criu_must(with({"dump", "-t", std::to_string(pid_), "-D", directory, "-o", "dump.log"}));
    REQUIRE(eventually([&] {
      reap();
      return ::kill(pid_, 0) != 0;
    }));
    criu_must(with({"restore", "-D", directory, "-d", "-o", "restore.log"}));
  }

 private:
  pid_t pid_;
};

std::string directory_in(const TemporaryDirectory& base, const std::string& name) {
  std::filesystem::create_directories(base / name);
  return base / name;
}

// One connection to a redis server on loopback.
class Redis {
 public:
  explicit Redis(uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    timeval patience{20, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    connected_ = ::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  Redis(const Redis&) = delete;
  Redis& operator=(const Redis&) = delete;
  ~Redis() { ::close(socket_); }
  bool connected() const { return connected_; }
  void send(const std::string& text) {
    for (size_t done = 0; done < text.size();) {
      ssize_t sent = ::send(socket_, text.data() + done, text.size() - done, MSG_NOSIGNAL);
      if (sent <= 0) return;
      done += static_cast<size_t>(sent);
    }
  }
  // The next line of an answer, without its end; "" when the connection has ended.
  std::string line() {
    for (;;) {
      size_t end = buffer_.find("\r\n");
      if (end != std::string::npos) {
        std::string line = buffer_.substr(0, end);
        buffer_.erase(0, end + 2);
        return line;
      }
      char chunk[65536];
      ssize_t got = ::recv(socket_, chunk, sizeof chunk, 0);
      if (got <= 0) return "";
      buffer_.append(chunk, static_cast<size_t>(got));
    }
  }
  std::string ask(const std::string& command) {
    send(command + "\r\n");
    return line();
  }

 private:
  int socket_;
  bool connected_ = false;
  std::string buffer_;
};

constexpr int kKeys = 10'000;
std::string key(int number) {
  return "key:" + std::to_string(number);
}
std::string value(int number) {
  return "value-" + std::to_string(number * 7919);
}

uint16_t free_port() {
  int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  ::close(fd);
  return ntohs(address.sin_port);
}

// redis-server does this for itself where transparent huge pages are always on; a program inherits it from
// whoever starts it.
class NoHugePages {
 public:
  NoHugePages() { ::prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0); }
  NoHugePages(const NoHugePages&) = delete;
  NoHugePages& operator=(const NoHugePages&) = delete;
  ~NoHugePages() { end(); }
  void end() { ::prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0); }
};

class RedisServer {
 public:
  RedisServer()
      : port_(free_port()),
        program_({"/usr/bin/redis-server", "--port", std::to_string(port_), "--bind", "127.0.0.1", "--save",
                  "", "--appendonly", "no", "--dir", directory_.path(), "--logfile",
                  directory_ / "redis.log"}) {
    if (!eventually([&] { return Redis(port_).connected(); }))
      throw std::runtime_error("redis does not start");
  }
  uint16_t port() const { return port_; }
  pid_t pid() const { return program_.pid(); }
  void move(const std::vector<std::string>& more = {}) {
    program_.move(directory_in(directory_, "images"), more);
  }
  std::string images() { return directory_in(directory_, "images"); }

  void set_all() {
    Redis client(port_);
    std::string commands;
    for (int i = 0; i < kKeys; ++i) commands += "SET " + key(i) + " " + value(i) + "\r\n";
    client.send(commands);
    for (int i = 0; i < kKeys; ++i) REQUIRE(client.line() == "+OK");
  }
  // How many keys have the right value.
  int count_right() {
    Redis client(port_);
    std::string commands;
    for (int i = 0; i < kKeys; ++i) commands += "GET " + key(i) + "\r\n";
    client.send(commands);
    int right = 0;
    for (int i = 0; i < kKeys; ++i) {
      std::string length = client.line();
      if (length == "") return right;
      right += length != "$-1" && client.line() == value(i);
    }
    return right;
  }
  bool thp_disabled() const {
    std::ifstream file("/proc/" + std::to_string(pid()) + "/status");
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with("THP_enabled:")) return line.ends_with("0");
    }
    return false;
  }

 private:
  TemporaryDirectory directory_;
  uint16_t port_;
  NoHugePages no_thp_;
  Program program_;
};

TEST_CASE("redis-server moves with all its keys") {
  if (!std::filesystem::exists("/usr/bin/redis-server")) GODWIT_SKIP("no redis-server");
  RedisServer server;
  server.set_all();
  bool thp_disabled = server.thp_disabled();
  CHECK(thp_disabled);
  for (int move = 0; move < 3; ++move) {
    server.move();
    CHECK(server.count_right() == kKeys);
    CHECK(server.thp_disabled() == thp_disabled);
    Redis client(server.port());
    CHECK(client.ask("INCR moves") == ":" + std::to_string(move + 1));
  }
  CHECK(move_and_compare(server.pid(), server.images()) == "");
}

TEST_CASE(
    "redis-server under load: with --tcp-close its clients reconnect, and no acknowledged write is lost") {
  if (!std::filesystem::exists("/usr/bin/redis-server")) GODWIT_SKIP("no redis-server");
  RedisServer server;
  server.set_all();
  int written = 0;
  for (int move = 0; move < 3; ++move) {
    Redis idle(server.port());
    REQUIRE(idle.ask("PING") == "+PONG");
    // Without the option established connections are refused, and the server goes on with them.
    Outcome refused = criu({"dump", "-t", std::to_string(server.pid()), "-D", server.images()});
    CHECK(refused.status == 1);
    CHECK(refused.output.find("--tcp-close") != std::string::npos);
    CHECK(idle.ask("PING") == "+PONG");

    std::atomic<bool> stop{false};
    std::atomic<int> acknowledged{written}, reconnects{0};
    std::thread writer([&] {
      while (!stop) {
        Redis client(server.port());
        if (!client.connected()) {
          std::this_thread::sleep_for(std::chrono::milliseconds(2));
          continue;
        }
        ++reconnects;
        while (!stop && client.ask("SET written " + std::to_string(acknowledged + 1)) == "+OK")
          ++acknowledged;
      }
    });
    CHECK(eventually([&] { return acknowledged > written + 100; }));
    server.move({"--tcp-close"});
    int at_move = acknowledged;
    CHECK(eventually([&] { return acknowledged > at_move + 100; }));
    stop = true;
    writer.join();
    written = acknowledged;
    CHECK(reconnects > 1);
    CHECK(idle.ask("PING") == "");  // its connection came back closed
    CHECK(server.count_right() == kKeys);
    Redis client(server.port());
    client.send("GET written\r\n");
    client.line();
    CHECK(client.line() == std::to_string(written));
  }
}

const char* const kPython = R"(
import os, queue, subprocess, sys, threading, time
path = sys.argv[1]
todo, done = queue.Queue(), queue.Queue()
child = subprocess.Popen([sys.executable, '-c', '''
import sys
for line in sys.stdin:
    print(int(line) + 1, flush=True)
'''], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

def work(state=None):
    own = threading.local()
    own.seen = 0
    while True:
        item = todo.get()
        own.seen += 1
        time.sleep(0.001)
        done.put((item, item * item))

for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
rounds, failures = 0, []
while True:
    for i in range(8):
        todo.put(rounds + i)
    got = sorted(done.get() for _ in range(8))
    if got != [(rounds + i, (rounds + i) ** 2) for i in range(8)]:
        failures.append(f'round {rounds}: {got}')
    child.stdin.write(f'{rounds}\n')
    answer = child.stdout.readline()
    if answer != f'{rounds + 1}\n':
        failures.append(f'round {rounds}: child says {answer!r}')
    if threading.active_count() != 5 or child.poll() is not None:
        failures.append(f'round {rounds}: {threading.active_count()} threads, child {child.poll()}')
    rounds += 1
    with open(path + '.new', 'w') as file:
        file.write('\n'.join([str(rounds)] + failures) + '\n')
    os.rename(path + '.new', path)
)";

TEST_CASE("python3 with threads, a queue and a child") {
  if (!std::filesystem::exists("/usr/bin/python3")) GODWIT_SKIP("no python3");
  TemporaryDirectory directory;
  std::string report = directory / "report";
  std::ofstream(directory / "program.py") << kPython;
  Program program({"/usr/bin/python3", directory / "program.py", report});
  auto rounds = [&] {
    std::ifstream file(report);
    int count = 0;
    file >> count;
    return count;
  };
  auto goes_on = [&] {
    int before = rounds();
    return eventually([&] { return rounds() > before + 3; });
  };
  REQUIRE(goes_on());
  for (int move = 0; move < 3; ++move) {
    program.move(directory_in(directory, "images"));
    CHECK(goes_on());
  }
  CHECK(move_and_compare(program.pid(), directory_in(directory, "images")) == "");
  CHECK(goes_on());
  std::ifstream file(report);
  std::string first, failure;
  std::getline(file, first);
  std::getline(file, failure);
  CHECK(failure == "");
}

}  // namespace
}  // namespace godwit::test
