// Batches in a frozen program: what they can do, and that the program is afterwards as it was.
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <atomic>
#include <filesystem>
#include <vector>

#include "engine/base/fd.h"
#include "engine/kernel/proc_maps.h"
#include "engine/kernel/proc_task.h"
#include "engine/tracee/freeze.h"
#include "engine/tracee/remote_caller.h"
#include "tests/support/child.h"
#include "tests/support/skip.h"

using namespace godwit;
using namespace godwit::tracee;
using godwit::test::Child;
using godwit::test::eventually;
using godwit::test::Shared;

namespace {

struct Counters {
  std::atomic<long> count[64];
  std::atomic<long> errors;
  std::atomic<long> handled;
};

void sleep_for_ever() {
  for (;;) ::pause();
}

long count_threads(pid_t pid) {
  std::filesystem::directory_iterator tasks(fmt::format("/proc/{}/task", pid));
  return std::distance(begin(tasks), end(tasks));
}

std::string maps_of(pid_t pid) {
  return read_file(AT_FDCWD, fmt::format("/proc/{}/maps", pid));
}

}  // namespace

TEST_CASE("a batch passes results on, keeps data apart, and leaves no trace") {
  Child child(sleep_for_ever);
  auto tree = freeze_tree(child.pid(), {});
  auto& leader = tree.root().leader();
  std::string before = maps_of(child.pid());
  {
    auto caller = RemoteCaller::for_running(tree.root().threads);
    Batch batch;
    auto fd = batch.call(SYS_memfd_create, {batch.put_string("x"), 0});
    batch.call(SYS_dup3, {fd, 77, O_CLOEXEC});
    auto greeting = batch.put_string("hello");
    batch.call(SYS_pwrite64, {77, greeting, 5, 0});
    auto target = batch.reserve(16);
    auto vector = batch.put_object(iovec{nullptr, 16});
    batch.patch(vector, 0, target);
    auto count = batch.call(SYS_preadv, {fd, vector, 1, 0, 0});
    auto numbers = batch.reserve(16);
    batch.store32(fd, numbers, 4);
    batch.store64(count, numbers, 8);
    batch.call(SYS_close, {fd});
    batch.call(SYS_close, {77});
    auto pid = batch.call(SYS_getpid, {});
    auto results = caller.run(leader, batch);
    results.check_all("test");
    CHECK(results.check(count, "preadv") == 5);
    CHECK(std::string(reinterpret_cast<const char*>(results.bytes(target).data())) == "hello");
    CHECK(results.get<uint32_t>(numbers, 0) == 0);
    CHECK(results.get<uint32_t>(numbers, 4) == static_cast<uint32_t>(results.value(fd)));
    CHECK(results.get<uint64_t>(numbers, 8) == 5);
    CHECK(results.value(pid) == child.pid());
    CHECK(maps_of(child.pid()) != before);
    caller.cure();
  }
  CHECK(maps_of(child.pid()) == before);
  auto now = leader.registers();
  CHECK(std::memcmp(&now, &leader.frozen().registers, sizeof now) == 0);
  CHECK(leader.signal_mask() == leader.frozen().signal_mask);
}

TEST_CASE("a failing call stops the batch, unless it may fail") {
  Child child(sleep_for_ever);
  auto tree = freeze_tree(child.pid(), {});
  auto caller = RemoteCaller::for_running(tree.root().threads);
  Batch batch;
  auto allowed = batch.call(SYS_close, {999}, OnFailure::kContinue);
  auto failing = batch.call(SYS_openat, {AT_FDCWD, batch.put_string("/no/such/file"), O_RDONLY});
  auto after = batch.call(SYS_getpid, {});
  auto results = caller.run(tree.root().leader(), batch);
  CHECK(results.value(allowed) == -EBADF);
  CHECK(results.value(failing) == -ENOENT);
  CHECK_FALSE(results.was_run(after));
  CHECK(results.stopped_early());
  std::string text;
  try {
    results.check(failing, "openat({})", "/no/such/file");
  } catch (const SystemError& error) {
    CHECK(error.code() == ENOENT);
    text = error.what();
  }
  CHECK(text == fmt::format("pid {}: openat(/no/such/file): No such file or directory", child.pid()));
  CHECK_THROWS_AS(results.check_all("test"), SystemError);
  CHECK_THROWS_AS(results.check(after, "getpid"), SystemError);
}

TEST_CASE("data of several MiB and thousands of calls") {
  Child child(sleep_for_ever);
  auto tree = freeze_tree(child.pid(), {});
  std::string before = maps_of(child.pid());
  auto caller = RemoteCaller::for_running(tree.root().threads);
  Batch batch;
  std::vector<std::byte> content(5'000'000);
  for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<std::byte>(i * 7 >> 3);
  auto source = batch.put(content);
  auto target = batch.reserve(content.size());
  auto fd = batch.call(SYS_memfd_create, {batch.put_string("big"), 0});
  batch.call(SYS_write, {fd, source, content.size()});
  batch.call(SYS_pread64, {fd, target, content.size(), 0});
  batch.call(SYS_close, {fd});
  std::vector<Batch::Result> many;
  for (int i = 0; i < 5000; ++i) many.push_back(batch.call(SYS_getppid, {}));
  auto results = caller.run(tree.root().leader(), batch);
  results.check_all("big batch");
  CHECK(std::memcmp(results.bytes(target).data(), content.data(), content.size()) == 0);
  CHECK(results.value(many.back()) == ::getpid());
  caller.cure();
  CHECK(maps_of(child.pid()) == before);
}

namespace {

void* count_up(void* counter) {
  for (;;) ++*static_cast<std::atomic<long>*>(counter);
}

void* wait_in_poll(void* counter) {
  for (;;) {
    if (::poll(nullptr, 0, 1'000'000) != 0) ++*static_cast<std::atomic<long>*>(counter);
  }
}

}  // namespace

TEST_CASE("forty threads run batches at the same time, each as itself, and run on") {
  Shared<Counters> counters;
  Child child([&] {
    pthread_t thread;
    for (int i = 1; i < 40; ++i) {
      pthread_create(&thread, nullptr, i < 4 ? count_up : wait_in_poll,
                     i < 4 ? &counters->count[i] : &counters->errors);
    }
    count_up(&counters->count[0]);
  });
  REQUIRE(eventually([&] { return count_threads(child.pid()) == 40; }));
  std::string before = maps_of(child.pid());
  auto tree = freeze_tree(child.pid(), {});
  auto& threads = tree.root().threads;
  REQUIRE(threads.size() == 40);
  auto caller = RemoteCaller::for_running(threads);
  Batch batch;
  auto tid = batch.call(SYS_gettid, {});
  for (int i = 0; i < 100; ++i) batch.call(SYS_getppid, {});
  for (int round = 0; round < 3; ++round) {
    for (Tracee& thread : threads) caller.start(thread, batch);
    for (Tracee& thread : threads) CHECK(caller.finish(thread).check(tid, "gettid") == thread.tid());
  }
  caller.cure();
  CHECK(maps_of(child.pid()) == before);
  long counted = counters->count[0];
  tree.thaw();
  CHECK(eventually([&] { return counters->count[0] > counted; }));
  CHECK(counters->errors == 0);
}

TEST_CASE("processes run batches at the same time") {
  Child first(sleep_for_ever), second(sleep_for_ever);
  auto one = freeze_tree(first.pid(), {}), two = freeze_tree(second.pid(), {});
  auto caller_one = RemoteCaller::for_running(one.root().threads);
  auto caller_two = RemoteCaller::for_running(two.root().threads);
  Batch batch;
  auto pid = batch.call(SYS_getpid, {});
  caller_one.start(one.root().leader(), batch);
  caller_two.start(two.root().leader(), batch);
  CHECK_THROWS_AS(caller_one.start(one.root().leader(), batch), Error);
  CHECK(caller_two.finish(two.root().leader()).value(pid) == second.pid());
  CHECK(caller_one.finish(one.root().leader()).value(pid) == first.pid());
}

namespace {

Counters* g_counters_of_handler;  // set in the child only: a signal handler has no other way to it

void note_signal(int, siginfo_t* info, void*) {
  if (info->si_code == SI_QUEUE) ++g_counters_of_handler->handled;
}

}  // namespace

TEST_CASE("signals that arrive during batches are neither lost nor change the batch") {
  Shared<Counters> counters;
  Child child([&] {
    g_counters_of_handler = &*counters;
    struct sigaction action {};
    action.sa_sigaction = note_signal;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGRTMIN, &action, nullptr);
    // SIGURG is what ends the batches: from outside it is blocked and waited for.
    sigset_t urgent;
    sigemptyset(&urgent);
    for (int signal : {SIGURG, SIGWINCH, SIGCHLD, SIGCONT}) sigaddset(&urgent, signal);
    ::sigprocmask(SIG_BLOCK, &urgent, nullptr);
    counters->count[0] = 1;
    while (counters->handled < 500) ::usleep(1000);
    timespec no_wait{};
    sigset_t only;
    sigemptyset(&only);
    sigaddset(&only, SIGURG);
    siginfo_t info;
    counters->count[2] = ::sigtimedwait(&only, &info, &no_wait) == SIGURG && info.si_value.sival_int == 4711;
    counters->count[1] = 1;
    sleep_for_ever();
  });
  REQUIRE(eventually([&] { return counters->count[0] == 1; }));
  auto tree = freeze_tree(child.pid(), {});
  auto caller = RemoteCaller::for_running(tree.root().threads);
  Batch batch;
  for (int i = 0; i < 20; ++i) batch.call(SYS_getppid, {});
  auto last = batch.call(SYS_getpid, {});
  for (int i = 0; i < 500; ++i) {
    if (i == 250) ::sigqueue(child.pid(), SIGURG, sigval{.sival_int = 4711});
    caller.start(tree.root().leader(), batch);
    ::sigqueue(child.pid(), SIGRTMIN, sigval{.sival_int = i});
    CHECK(caller.finish(tree.root().leader()).value(last) == child.pid());
  }
  caller.cure();
  tree.thaw();
  CHECK(eventually([&] { return counters->count[1] == 1; }));
  CHECK(counters->handled == 500);
  CHECK(counters->count[2] == 1);
}

TEST_CASE("SIGSTOP during a batch stops the program after it") {
  Child child(sleep_for_ever);
  auto tree = freeze_tree(child.pid(), {});
  auto caller = RemoteCaller::for_running(tree.root().threads);
  Batch batch;
  auto pid = batch.call(SYS_getpid, {});
  ::kill(child.pid(), SIGSTOP);
  CHECK(caller.run(tree.root().leader(), batch).value(pid) == child.pid());
  caller.cure();
  tree.thaw();
  CHECK(eventually([&] { return kernel::read_task_stat(child.pid(), child.pid()).state == 'T'; }));
}

TEST_CASE("a program killed during a batch is an error that says so") {
  Child child(sleep_for_ever);
  auto tree = freeze_tree(child.pid(), {});
  auto caller = RemoteCaller::for_running(tree.root().threads);
  Batch batch;
  batch.call(SYS_kill, {child.pid(), SIGKILL});
  std::string text;
  try {
    caller.run(tree.root().leader(), batch);
  } catch (const Error& error) {
    text = error.what();
  }
  CHECK(text.find(fmt::format("pid {} was killed by signal 9", child.pid())) == 0);
}

TEST_CASE("a program whose signals all have handlers is refused by name and runs on") {
  Shared<Counters> counters;
  Child child([&] {
    for (int signal : {SIGURG, SIGWINCH, SIGCHLD, SIGCONT}) ::signal(signal, [](int) {});
    for (int signal = 1; signal <= 31; ++signal) {
      struct sigaction old {};
      if (::sigaction(signal, nullptr, &old) == 0 && old.sa_handler == SIG_IGN) ::signal(signal, SIG_DFL);
    }
    count_up(&counters->count[0]);
  });
  REQUIRE(eventually([&] { return counters->count[0] > 0; }));
  auto tree = freeze_tree(child.pid(), {});
  CHECK_THROWS_AS(RemoteCaller::for_running(tree.root().threads), RefusedError);
  long counted = counters->count[0];
  tree.thaw();
  CHECK(eventually([&] { return counters->count[0] > counted; }));
}

TEST_CASE("a program without writable-executable mappings (PR_SET_MDWE) takes a scratch") {
  Shared<Counters> counters;
  Child child([&] {
    constexpr int kSetMdwe = 65;  // PR_SET_MDWE, Linux 6.3
    counters->count[1] = ::prctl(kSetMdwe, 1, 0, 0, 0) == 0 ? 1 : 2;
    sleep_for_ever();
  });
  REQUIRE(eventually([&] { return counters->count[1] != 0; }));
  if (counters->count[1] == 2) GODWIT_SKIP("no PR_SET_MDWE before Linux 6.3");
  auto tree = freeze_tree(child.pid(), {});
  auto caller = RemoteCaller::for_running(tree.root().threads);
  Batch batch;
  auto pid = batch.call(SYS_getpid, {});
  CHECK(caller.run(tree.root().leader(), batch).value(pid) == child.pid());
}

TEST_CASE("the scratch is known as such, and nothing else is") {
  Child child(sleep_for_ever);
  auto tree = freeze_tree(child.pid(), {});
  auto caller = RemoteCaller::for_running(tree.root().threads);
  int scratch = 0;
  for (const auto& entry : kernel::parse_maps(maps_of(child.pid()))) {
    bool inside = false;
    for (const auto& range : caller.scratch()) {
      inside |= entry.start >= range.start.value && entry.start < range.start.value + range.size;
    }
    CHECK(is_scratch(caller.memory(), entry) == inside);
    scratch += inside;
  }
  CHECK(scratch == 2);
}
