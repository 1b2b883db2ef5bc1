// Descriptors and epoll registrations in a task that fetches them from us.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "engine/base/error.h"
#include "engine/kernel/fdinfo.h"
#include "engine/tracee/remote_caller.h"
#include "engine/tracee/seed.h"
#include "tests/support/file_holder.h"

using namespace godwit;
using namespace godwit::tracee;
using test::FileDump;
using test::FileHolder;

namespace {

// A task without descriptors, ended with the scope.
class EmptyTask {
 public:
  EmptyTask()
      : tracee_(spawn_seed({})),
        caller_(RemoteCaller::for_restore(tracee_, RemoteAddress{0x5500'0000'0000}, 1 << 20, 1)) {}
  ~EmptyTask() {
    tracee_.kill();
    ::waitpid(tracee_.tid(), nullptr, __WALL);
    tracee_.forget();
  }
  BatchResults run(const Batch& batch) { return caller_.run(tracee_, batch); }
  pid_t pid() const { return tracee_.pid(); }

  void install(files::FileOpener& opener, size_t max_calls = 512) {
    for (const Batch& batch : opener.install_batches(1, max_calls)) run(batch).check_all("install");
    Batch finish;
    opener.add_finish_calls(1, finish);
    run(finish).check_all("finish");
  }

 private:
  Tracee tracee_;
  RemoteCaller caller_;
};

void place(int fd, int number, int flags = 0) {
  check(::dup3(fd, number, flags), "dup3");
  ::close(fd);
}

// What a process has: "5 close-on-exec anon_inode:[eventfd]" for each descriptor.
std::vector<std::string> descriptors_of(pid_t pid) {
  std::vector<std::string> list;
  for (const auto& item : std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", pid))) {
    std::string number = item.path().filename();
    auto info = kernel::parse_fdinfo(read_file(AT_FDCWD, fmt::format("/proc/{}/fdinfo/{}", pid, number)));
    list.push_back(fmt::format("{} {} {}", number, info.flags & O_CLOEXEC ? "close-on-exec" : "inherited",
                               read_link(AT_FDCWD, item.path())));
  }
  std::sort(list.begin(), list.end());
  return list;
}

std::vector<kernel::EpollTarget> targets_of(pid_t pid, int number) {
  return kernel::parse_epoll_targets(read_file(AT_FDCWD, fmt::format("/proc/{}/fdinfo/{}", pid, number)));
}

void watch(int epoll, int number, uint32_t events, uint64_t data) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = data;
  check(::epoll_ctl(epoll, EPOLL_CTL_ADD, number, &event), "epoll_ctl({})", number);
}

// What an epoll of a process would report now, by data.
std::map<uint64_t, uint32_t> reports_of(EmptyTask& task, int epoll) {
  constexpr size_t kMost = 16;
  Batch batch;
  auto events = batch.reserve(kMost * sizeof(epoll_event));
  auto count = batch.call(SYS_epoll_wait, {epoll, events, kMost, 0});
  auto results = task.run(batch);
  std::map<uint64_t, uint32_t> reports;
  for (int64_t i = 0; i < results.check(count, "epoll_wait"); ++i) {
    auto event = results.get<epoll_event>(events, static_cast<uint64_t>(i) * sizeof(epoll_event));
    reports[event.data.u64] = event.events;
  }
  return reports;
}

}  // namespace

TEST_CASE("a table with gaps and large numbers is the same again") {
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_NOFILE, &limit) == 0);
  int largest = static_cast<int>(limit.rlim_max) - 1;
  FileHolder holder([&] {
    rlimit all{limit.rlim_max, limit.rlim_max};
    check(::setrlimit(RLIMIT_NOFILE, &all), "setrlimit");
    place(::open("/dev/null", O_RDWR), 1);
    ::dup3(1, 3, O_CLOEXEC);
    place(::open("/dev/zero", O_RDONLY), 4);
    for (int number = 10; number < 700; ++number)
      ::dup3(number % 3 ? 1 : 4, number, number % 2 ? O_CLOEXEC : 0);
    place(::eventfd(1, 0), largest, O_CLOEXEC);
  });
  FileDump dump;
  dump.add(holder);
  REQUIRE(dump.problems() == "");
  auto files = dump.opener();
  for (size_t max_calls : {size_t{100000}, size_t{100}}) {
    EmptyTask task;
    task.install(*files, max_calls);
    CHECK(descriptors_of(task.pid()) == descriptors_of(holder.pid()));
  }
}

TEST_CASE("an empty table stays empty") {
  FileHolder holder([] {});
  FileDump dump;
  dump.add(holder);
  auto files = dump.opener();
  CHECK(files->install_batches(1).empty());
}

TEST_CASE("a task gets a file for a moment") {
  FileHolder holder([] { place(::open("/dev/zero", O_RDONLY), 5); });
  FileDump dump;
  dump.add(holder);
  auto files = dump.opener();
  EmptyTask task;
  Batch batch;
  auto coordinator = files->add_coordinator(batch);
  auto fd = files->add_get(batch, coordinator, dump.row(1, 5).id());
  auto buffer = batch.put_in_out(std::as_bytes(std::span("abcd", 4)));
  auto count = batch.call(SYS_read, {fd, buffer, 4});
  batch.call(SYS_close, {fd});
  batch.call(SYS_close, {coordinator});
  auto results = task.run(batch);
  results.check_all("get");
  CHECK(results.value(count) == 4);
  CHECK(results.get<uint32_t>(buffer) == 0);
  CHECK(descriptors_of(task.pid()).empty());
}

TEST_CASE("an epoll watches the same files for the same events") {
  FileHolder holder([] {
    int ends[2];
    check(::pipe2(ends, 0), "pipe2");
    place(ends[0], 10);
    place(ends[1], 11);
    place(::eventfd(1, 0), 12);
    place(::epoll_create1(0), 5);
    place(::epoll_create1(0), 6);
    watch(5, 10, EPOLLIN, 100);
    watch(5, 12, EPOLLIN | EPOLLET, 0xffff'0000'1111'2222);
    watch(5, 11, EPOLLOUT | EPOLLONESHOT, 102);  // not fired yet
    watch(6, 5, EPOLLIN, 103);                   // an epoll in an epoll
  });
  FileDump dump;
  dump.add(holder);
  REQUIRE(dump.problems() == "");
  auto files = dump.opener();
  EmptyTask task;
  task.install(*files);
  for (int epoll : {5, 6}) {
    std::map<uint64_t, std::pair<int, uint32_t>> expected, found;
    for (const auto& target : targets_of(holder.pid(), epoll))
      expected[target.data] = {target.number, target.events};
    for (const auto& target : targets_of(task.pid(), epoll))
      found[target.data] = {target.number, target.events};
    CHECK(found == expected);
  }
  CHECK(reports_of(task, 5) ==
        std::map<uint64_t, uint32_t>{{0xffff'0000'1111'2222, EPOLLIN}, {102, EPOLLOUT}});
}

TEST_CASE("a ONESHOT that has fired stays quiet") {
  FileHolder holder([] {
    int ends[2];
    check(::pipe2(ends, 0), "pipe2");
    place(ends[0], 10);
    place(ends[1], 11);
    place(::eventfd(1, 0), 12);
    place(::epoll_create1(0), 5);
    watch(5, 12, EPOLLIN | EPOLLONESHOT, 100);  // stays ready
    watch(5, 10, EPOLLIN | EPOLLONESHOT, 101);  // will not be
    check(::write(11, "x", 1), "write");
    epoll_event events[4];
    check(::epoll_wait(5, events, 4, 0), "epoll_wait");
    char byte;
    check(::read(10, &byte, 1), "read");
    watch(5, 11, EPOLLOUT, 102);
  });
  for (const auto& target : targets_of(holder.pid(), 5)) {
    if (target.data != 102) REQUIRE(target.events == EPOLLONESHOT);
  }
  FileDump dump;
  dump.add(holder);
  REQUIRE(dump.problems() == "");
  auto files = dump.opener();
  EmptyTask task;
  task.install(*files);
  CHECK(reports_of(task, 5) == std::map<uint64_t, uint32_t>{{102, EPOLLOUT}});
  std::map<uint64_t, uint32_t> events;
  for (const auto& target : targets_of(task.pid(), 5)) events[target.data] = target.events;
  CHECK(events[100] == EPOLLONESHOT);
  // Nobody could make this one fire; it waits for errors and hang-ups only.
  CHECK(events[101] == (EPOLLONESHOT | EPOLLERR | EPOLLHUP));
}

TEST_CASE("a watched file is found under its new number, or named") {
  FileHolder moved([] {
    place(::eventfd(0, 0), 10);
    place(::epoll_create1(0), 5);
    watch(5, 10, EPOLLIN, 100);
    ::dup2(10, 20);
    ::dup2(5, 6);
    place(::eventfd(0, 0), 10);  // another file with the old number
  });
  FileDump dump;
  dump.add(moved);
  REQUIRE(dump.problems() == "");
  auto files = dump.opener();
  CHECK(files->entry(dump.row(1, 5).id()).epfd().tfd(0).tfd() == 20);

  FileHolder escaped([] {
    place(::eventfd(0, 0), 10);
    place(::epoll_create1(0), 5);
    watch(5, 10, EPOLLIN, 100);
    if (::fork() == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (;;) ::pause();
    }
    ::close(10);
  });
  FileDump other;
  other.add(escaped);
  CHECK(other.problems().find(
            "watches a file that was added as fd 10 and that this process has under no number") !=
        std::string::npos);
}
