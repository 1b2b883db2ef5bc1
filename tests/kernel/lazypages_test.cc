#include <doctest/doctest.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cstdio>
#include <functional>
#include <future>
#include <map>
#include <thread>

#include "engine/base/bytes.h"
#include "engine/kernel/proc_task.h"
#include "engine/kinds/page_source.h"
#include "lazypages/daemon.h"
#include "lazypages/lazy_images.h"
#include "pageserver/lazy_server.h"
#include "tests/kernel/lazypages_guest.h"
#include "tests/support/child.h"
#include "tests/support/temporary_directory.h"
#include "tls/plain_stream.h"

namespace godwit::lazypages {
namespace {

using godwit::test::Child;
using godwit::test::eventually;
using godwit::test::Shared;
using test::expect;
using test::expect_page;
using test::expect_pages;
using test::expect_zeros;
using test::hand_over;
using test::kArena;
using test::page;
using test::shuffled;

constexpr uint64_t kLazy = 600;   // pages that have to come
constexpr uint64_t kArea = 1000;  // pages of the area; the others are empty

// Gives every page its contents, at most so many at a time, and counts.
class TestSource final : public kinds::PageSource {
 public:
  explicit TestSource(uint64_t most) : most_(most) {}
  uint64_t read(kinds::PageImageId, kinds::PageRange range, std::span<std::byte> buffer) override {
    uint64_t pages = std::min(range.pages, most_);
    for (uint64_t i = 0; i < pages; ++i) {
      uint64_t image = range.address + i * kPageSize;
      test::fill_page(image, buffer.data() + i * kPageSize);
      ++served[image];
    }
    return pages;
  }
  std::map<uint64_t, int> served;

 private:
  uint64_t most_;
};

tls::Connection connection(Fd socket, const char* peer) {
  return {std::move(socket), peer};
}

// What a guest does, as its exit status. The daemon must be there.
Child guest(const std::string& directory, const std::function<void()>& body) {
  return Child([&] {
    // Like a restored task, it has none of the daemon's descriptors.
    ::syscall(SYS_close_range, 3, ~0u, 0);
    try {
      hand_over(directory, kLazy, kArea);
      body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "guest: %s\n", error.what());
      ::_exit(1);
    }
  });
}

// A daemon, its guardian, and a socket to its source. Guests are forked after it is made and before serve().
class Bench {
 public:
  explicit Bench(std::optional<std::chrono::seconds> patience = std::nullopt) : patience_(patience) {
    ::signal(SIGPIPE, SIG_IGN);  // as the commands do
  }

  const std::string& directory() const { return directory_.path(); }
  void serve_honestly(uint64_t most = 1024) {
    source_end_ = std::async(std::launch::async, [this, most] {
      TestSource source(most);
      tls::PlainStream stream(connection(std::move(sockets_.first), "daemon"));
      auto report = pageserver::serve_lazily(stream, source);
      served_ = std::move(source.served);
      return report.end == pageserver::LazyEnd::kClosed;
    });
  }
  // A source of the test's own: it gets the socket.
  void serve_badly(std::function<void(Fd)> source) {
    source_end_ = std::async(std::launch::async, [this, source = std::move(source)] {
      source(std::move(sockets_.first));
      return false;
    });
  }
  Outcome serve() {
    pageserver::LazyClient client(
        pageserver::Peer{std::make_unique<tls::PlainStream>(connection(std::move(sockets_.second), "source")),
                         pageserver::Layout::kLong});
    auto images = images::ImageDirectory::open(directory());
    DaemonSettings settings{images, *guardian_, stop_.get(), patience_};
    return Daemon(settings, std::move(client)).serve(listener_);
  }
  // The daemon process is gone for the guardian.
  void end_daemon() { guardian_.reset(); }
  void stop() { write_all(stop_.get(), bytes_of(uint64_t{1}), "eventfd"); }
  bool source_was_closed() { return source_end_.get(); }
  const std::map<uint64_t, int>& served() const { return served_; }
  const Guardian& guardian() const { return *guardian_; }

 private:
  std::optional<std::chrono::seconds> patience_;
  godwit::test::TemporaryDirectory directory_;
  std::optional<Guardian> guardian_{Guardian::start(false)};
  memory::LazyHandoverListener listener_{directory_.path()};
  SocketPair sockets_ = SocketPair::create(SOCK_STREAM);
  Fd stop_{::eventfd(0, EFD_CLOEXEC)};
  std::map<uint64_t, int> served_;
  std::future<bool> source_end_;
};

// The guest's exit status with an honest source.
int status_with(const std::function<void()>& body, Outcome& outcome, uint64_t most = 1024) {
  Bench bench;
  Child child = guest(bench.directory(), body);
  bench.serve_honestly(most);
  outcome = bench.serve();
  int status = child.wait();
  CHECK(bench.source_was_closed());
  for (const auto& [image, times] : bench.served()) {
    CAPTURE(image);
    REQUIRE(times == 1);
  }
  return status;
}

TEST_CASE("pages come with the right contents, in any order, once") {
  Outcome outcome;
  CHECK(status_with(
            [] {
              std::thread other([] { expect_pages(shuffled(0, kLazy, 2)); });
              expect_pages(shuffled(0, kLazy, 1));
              other.join();
              for (uint64_t i = kLazy; i < kArea; ++i) expect_zeros(page(i));
            },
            outcome) == 0);
  CHECK(outcome.complete);
  CHECK(outcome.missing_pages == 0);
  CHECK(outcome.statistics.pages() == kLazy);
}

TEST_CASE("a task that touches nothing gets everything") {
  Outcome outcome;
  Shared<std::atomic<bool>> complete;
  Bench bench;
  Child child = guest(bench.directory(), [&] {
    while (!*complete) ::usleep(1000);
    // The registration is gone with the daemon's last page, so empty pages need nobody.
    expect_zeros(page(kLazy));
    expect_pages(shuffled(0, kLazy));
  });
  bench.serve_honestly();
  outcome = bench.serve();
  *complete = true;
  CHECK(child.wait() == 0);
  CHECK(outcome.complete);
  CHECK(outcome.statistics.swept_pages == kLazy);
  CHECK(outcome.statistics.waits.count() == 0);
}

TEST_CASE("answers may hold fewer pages than were asked for") {
  Outcome outcome;
  CHECK(status_with([] { expect_pages(shuffled(0, kLazy)); }, outcome, 3) == 0);
  CHECK(outcome.complete);
}

TEST_CASE("children that are forked in between miss the same pages") {
  Outcome outcome;
  CHECK(status_with(
            [] {
              for (uint64_t round = 0; round < 6; ++round) {
                expect_pages(shuffled(round * 20, 10));
                pid_t child = check(::fork(), "fork");
                if (child == 0) {
                  // Its own writes stay its own.
                  *reinterpret_cast<volatile uint64_t*>(page(round)) = 1;
                  for (uint64_t i = kLazy; i-- > 6;) expect_page(page(i), page(i));
                  ::_exit(0);
                }
                expect_pages(shuffled(300, 20, static_cast<unsigned>(round)));
                int status = 0;
                ::waitpid(child, &status, 0);
                expect(status == 0, "the child saw its pages");
              }
              expect_pages(shuffled(0, kLazy, 9));
            },
            outcome) == 0);
  CHECK(outcome.complete);
}

void remap(uint64_t from, uint64_t to, uint64_t pages) {
  auto* moved = ::mremap(reinterpret_cast<void*>(from), pages * kPageSize, pages * kPageSize,
                         MREMAP_MAYMOVE | MREMAP_FIXED, to);
  expect(moved == reinterpret_cast<void*>(to), "mremap");
}

TEST_CASE("moved memory gets the pages of where it was") {
  Outcome outcome;
  CHECK(status_with(
            [] {
              remap(page(100), page(2000), 50);
              remap(page(2010), page(3000), 20);
              std::thread other([] {
                for (uint64_t i = 0; i < 20; ++i) expect_page(page(3019 - i), page(129 - i));
              });
              for (uint64_t i = 0; i < 10; ++i) expect_page(page(2000 + i), page(100 + i));
              for (uint64_t i = 30; i < 50; ++i) expect_page(page(2000 + i), page(100 + i));
              other.join();
              expect_pages(shuffled(150, kLazy - 150));
              expect_pages(shuffled(0, 100));
            },
            outcome) == 0);
  CHECK(outcome.complete);
}

TEST_CASE("moves while another thread waits lose nothing") {
  Outcome outcome;
  CHECK(status_with(
            [] {
              std::atomic<bool> done = false;
              std::thread other([&] {
                expect_pages(shuffled(200, 400));
                done = true;
              });
              for (uint64_t round = 0; !done || round < 20; ++round) {
                remap(page(0), page(5000), 100);
                expect_page(page(5000 + round % 100), page(round % 100));
                remap(page(5000), page(0), 100);
              }
              other.join();
              expect_pages(shuffled(0, 100));
            },
            outcome) == 0);
  CHECK(outcome.complete);
}

TEST_CASE("unmapped and discarded pages do not come back") {
  Outcome outcome;
  CHECK(status_with(
            [] {
              std::thread other([] { expect_pages(shuffled(300, 300)); });
              for (uint64_t i = 0; i < 100; i += 10) {
                ::madvise(reinterpret_cast<void*>(page(i)), 5 * kPageSize, MADV_DONTNEED);
                expect_zeros(page(i));
              }
              ::munmap(reinterpret_cast<void*>(page(100)), 100 * kPageSize);
              ::mprotect(reinterpret_cast<void*>(page(250)), kPageSize, PROT_READ);
              other.join();
              for (uint64_t i = 0; i < 100; ++i) {
                i % 10 < 5 ? expect_zeros(page(i)) : expect_page(page(i), page(i));
              }
              expect_pages(shuffled(200, 100));
            },
            outcome) == 0);
  CHECK(outcome.complete);
}

TEST_CASE("a task that ends in between needs nothing more") {
  for (bool by_exec : {false, true}) {
    Outcome outcome;
    CHECK(status_with(
              [by_exec] {
                expect_pages({5, 17});
                if (by_exec) ::execl("/bin/true", "true", nullptr);
              },
              outcome, 1) == 0);
    CHECK(outcome.complete);
  }
}

// --- sources that fail ---

void read_request(const Fd& socket, std::array<uint64_t, 4>& header) {
  if (read_up_to(socket.get(), writable_bytes_of(header), "request") != sizeof header)
    throw Error("no request");
}
// A header of an answer as 4.2 sends it.
void send_answer(const Fd& socket, uint64_t pages, uint64_t address, uint64_t pid, uint64_t real_pages) {
  std::array<uint64_t, 4> header{0x00040006, pages, address, pid};
  write_all(socket.get(), bytes_of(header), "answer");
  std::vector<std::byte> data(real_pages * kPageSize, std::byte{0xee});
  write_all(socket.get(), data, "answer");
}
// Keeps the connection until the other side ends it.
void wait_for_end(const Fd& socket) {
  std::array<std::byte, 4096> bytes;
  while (::recv(socket.get(), bytes.data(), bytes.size(), 0) > 0) {
  }
}

struct Bad {
  const char* name;
  std::function<void(Fd)> source;
};

std::vector<Bad> bad_sources() {
  return {{"the wrong address",
           [](Fd socket) {
             std::array<uint64_t, 4> asked;
             read_request(socket, asked);
             send_answer(socket, 1, asked[2] + kPageSize, asked[3], 1);
             wait_for_end(socket);
           }},
          {"more pages than asked for",
           [](Fd socket) {
             std::array<uint64_t, 4> asked;
             read_request(socket, asked);
             send_answer(socket, asked[1] + 1, asked[2], asked[3], 1);
             wait_for_end(socket);
           }},
          {"another pid",
           [](Fd socket) {
             std::array<uint64_t, 4> asked;
             read_request(socket, asked);
             send_answer(socket, 1, asked[2], asked[3] + 1, 1);
             wait_for_end(socket);
           }},
          {"half a page",
           [](Fd socket) {
             std::array<uint64_t, 4> asked;
             read_request(socket, asked);
             std::array<uint64_t, 4> header{0x00040006, 1, asked[2], asked[3]};
             write_all(socket.get(), bytes_of(header), "answer");
             write_all(socket.get(), std::vector<std::byte>(2048), "answer");
           }},
          {"nothing at all", [](Fd) {}}};
}

TEST_CASE("a source that answers wrongly or goes away never makes a task read wrong memory") {
  for (const Bad& bad : bad_sources()) {
    CAPTURE(bad.name);
    Bench bench(std::chrono::seconds(0));
    Shared<std::atomic<int>> went_on;
    Child child = guest(bench.directory(), [&] {
      volatile uint64_t first = *reinterpret_cast<volatile uint64_t*>(page(3));
      *went_on = first == test::word_of(page(3), 0) ? 1 : 2;
    });
    bench.serve_badly([&](Fd socket) {
      try {
        bad.source(std::move(socket));
      } catch (const Error&) {
      }
    });
    Outcome outcome = bench.serve();
    CHECK_FALSE(outcome.complete);
    CHECK(outcome.missing_pages == kLazy);
    CHECK_FALSE(outcome.reason.empty());
    bench.end_daemon();
    int status = child.wait();
    CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    CHECK(*went_on == 0);
  }
}

TEST_CASE("while the source is silent, empty pages are served and the daemon can be ended") {
  Bench bench;
  Shared<std::atomic<int>> zeros_seen;
  Shared<std::atomic<bool>> went_on;
  Child child = guest(bench.directory(), [&] {
    std::thread waiting([&] {
      expect_pages({1});
      *went_on = true;
    });
    for (uint64_t i = kLazy; i < kLazy + 20; ++i, ++*zeros_seen) expect_zeros(page(i));
    waiting.join();
  });
  bench.serve_badly([](Fd socket) { wait_for_end(socket); });
  auto outcome = std::async(std::launch::async, [&] { return bench.serve(); });
  CHECK(eventually([&] { return *zeros_seen == 20; }));
  bench.stop();
  CHECK_FALSE(outcome.get().complete);
  bench.end_daemon();
  int status = child.wait();
  CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
  CHECK_FALSE(*went_on);
}

TEST_CASE("tasks that never need the missing pages live on after a lost connection until they end") {
  Bench bench;
  Child child = guest(bench.directory(), [] {
    for (uint64_t i = kLazy; i < kArea; ++i) expect_zeros(page(i));
    ::usleep(50'000);
  });
  bench.serve_badly([](Fd) {});
  Outcome outcome = bench.serve();
  CHECK(child.wait() == 0);
  CHECK_FALSE(outcome.complete);  // for the source believes that the move failed
  CHECK(outcome.missing_pages == 0);
}

sigjmp_buf after_bus_error;  // of the forked guest below

TEST_CASE("a forked child gets SIGBUS, not zeros, when the pages do not come") {
  if (kernel::Userfaultfd::create(0).poison(kArena, kPageSize).error == EINVAL) return;  // Linux < 6.6
  Bench bench(std::chrono::seconds(0));
  Shared<std::atomic<bool>> forked;
  Shared<std::atomic<int>> seen;  // 1: SIGBUS, 2: some contents
  Child child = guest(bench.directory(), [&] {
    if (::fork() == 0) {
      ::signal(SIGBUS, [](int) { siglongjmp(after_bus_error, 1); });
      *forked = true;
      if (sigsetjmp(after_bus_error, 1) == 0) {
        volatile uint64_t first = *reinterpret_cast<volatile uint64_t*>(page(3));
        *seen = first != 0 ? 2 : 3;
      } else {
        *seen = 1;
      }
      ::_exit(0);
    }
    ::pause();
  });
  bench.serve_badly([&](Fd) { eventually([&] { return forked->load(); }); });
  CHECK_FALSE(bench.serve().complete);
  bench.end_daemon();
  CHECK(eventually([&] { return *seen != 0; }));
  CHECK(*seen == 1);
}

TEST_CASE("when the daemon is killed, the guardian kills the tasks") {
  godwit::test::TemporaryDirectory directory;
  SocketPair sockets = SocketPair::create(SOCK_STREAM);
  Shared<std::atomic<pid_t>> guardian;
  Shared<std::atomic<bool>> went_on, listens;
  Child daemon([&] {
    sockets.first.reset();
    auto watch = Guardian::start(false);
    *guardian = watch.pid();
    memory::LazyHandoverListener listener(directory.path());
    *listens = true;
    pageserver::LazyClient client(
        pageserver::Peer{std::make_unique<tls::PlainStream>(connection(std::move(sockets.second), "source")),
                         pageserver::Layout::kLong});
    auto images = images::ImageDirectory::open(directory.path());
    DaemonSettings settings{images, watch};
    Daemon(settings, std::move(client)).serve(listener);
  });
  sockets.second.reset();
  REQUIRE(eventually([&] { return listens->load(); }));
  Child child = guest(directory.path(), [&] {
    expect_pages({1});
    *went_on = true;
  });
  std::array<uint64_t, 4> asked;
  read_request(sockets.first, asked);  // somebody waits, so the restore is finished
  read_request(sockets.first, asked);
  ::kill(*guardian, SIGTERM);  // is not meant for it
  ::kill(daemon.pid(), SIGKILL);
  int status = child.wait();
  CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
  CHECK_FALSE(*went_on);
  std::byte byte;
  CHECK(::recv(sockets.first.get(), &byte, 1, MSG_WAITALL) >=
        0);  // the guardian does not keep the connection
  CHECK(eventually([&] {
    auto stat = kernel::read_task_stat_if_alive(*guardian, *guardian);
    return !stat || stat->state == 'Z';
  }));
}

TEST_CASE("a restore that ends too early fails the daemon") {
  Bench bench;
  Child child([&] {
    auto userfaults = kernel::Userfaultfd::create(0);
    test::write_images(bench.directory(), ::getpid(), kLazy, kArea);
    auto client = memory::LazyHandoverClient::connect(bench.directory());
    client.send(::getpid(), Fd(::dup(userfaults.fd())));
  });
  bench.serve_badly([](Fd socket) { wait_for_end(socket); });
  CHECK_THROWS_WITH_AS(bench.serve(), doctest::Contains("the restore failed"), Error);
}

TEST_CASE("a restore that leaves pages of the images to the daemon is refused, as they would be zeros") {
  for (bool filled : {true, false}) {
    Bench bench;
    Child child([&] {
      ::syscall(SYS_close_range, 3, ~0u, 0);
      hand_over(bench.directory(), kLazy, kArea, 8, filled);
      if (!filled) ::pause();
      try {
        expect_pages(shuffled(0, kLazy + 8));
      } catch (const Error&) {
        ::_exit(1);
      }
    });
    bench.serve_honestly();
    if (filled) {
      CHECK(bench.serve().complete);
      CHECK(child.wait() == 0);
      continue;
    }
    CHECK_THROWS_WITH_AS(bench.serve(), doctest::Contains("left out pages"), Error);
    bench.end_daemon();
    CHECK(WIFSIGNALED(child.wait()));
  }
}

TEST_CASE("the socket in the work directory") {
  godwit::test::TemporaryDirectory directory;
  auto connect = [&] { return memory::LazyHandoverClient::connect(directory.path()); };
  CHECK_THROWS_WITH_AS(
      connect(), "lazy-pages.socket: no lazy-pages daemon is listening here: start criu lazy-pages first",
      Error);
  // A daemon that was killed leaves its socket.
  Child([&] {
    new memory::LazyHandoverListener(directory.path());
    ::_exit(0);
  }).wait();
  CHECK_THROWS_AS(connect(), Error);
  memory::LazyHandoverListener listener(directory.path());
  CHECK_THROWS_WITH_AS(memory::LazyHandoverListener{directory.path()},
                       "lazy-pages.socket: another lazy-pages daemon is listening here", Error);
  REQUIRE(listener.accept_if_ready());  // that one has only looked
  auto client = connect();
  auto handover = listener.accept_if_ready();
  REQUIRE(handover);
  CHECK_FALSE(handover->receive_if_ready());
  Pipe pipe = Pipe::create();
  client.send(4, Fd());
  client.send(7, std::move(pipe.write_end));
  client.finish();
  auto task = handover->receive_if_ready();
  REQUIRE(task);
  REQUIRE(std::holds_alternative<memory::LazyHandover::Task>(*task));
  CHECK(std::get<memory::LazyHandover::Task>(*task).pid == 7);
  write_all(std::get<memory::LazyHandover::Task>(*task).userfaultfd.get(), bytes_of('x'), "pipe");
  char byte = 0;
  read_exactly(pipe.read_end.get(), writable_bytes_of(byte), "pipe");
  CHECK(byte == 'x');
  CHECK(std::holds_alternative<memory::LazyHandover::Finished>(*handover->receive_if_ready()));
  { auto gone = std::move(client); }
  CHECK(std::holds_alternative<memory::LazyHandover::Ended>(*handover->receive_if_ready()));
}

TEST_CASE("what is no hand-over is refused") {
  SocketPair pair = SocketPair::create(SOCK_STREAM);
  memory::LazyHandover handover(std::move(pair.first));
  write_all(pair.second.get(), bytes_of(std::array<int32_t, 2>{5, 5}),
            "socket");  // a pid without a descriptor
  CHECK_THROWS_AS(handover.receive_if_ready(), FormatError);
}

}  // namespace
}  // namespace godwit::lazypages
