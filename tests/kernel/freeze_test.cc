// Freezing trees that do not hold still.
#include <pthread.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include <algorithm>
#include <atomic>
#include <set>

#include "engine/base/error.h"
#include "engine/kernel/proc_task.h"
#include "engine/tracee/freeze.h"
#include "tests/support/child.h"
#include "tests/support/skip.h"

using namespace godwit;
using namespace godwit::tracee;
using godwit::test::Child;
using godwit::test::eventually;
using godwit::test::Shared;

namespace {

void sleep_for_ever() {
  for (;;) ::pause();
}

char state_of(pid_t pid) {
  return kernel::read_task_stat(pid, pid).state;
}

// The error of a freeze that must fail.
std::string failure_of(pid_t root, std::chrono::milliseconds timeout = std::chrono::milliseconds(10'000)) {
  try {
    freeze_tree(root, {.timeout = timeout});
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

struct Board {
  std::atomic<long> ready, count;
  std::atomic<pid_t> pid;
};

void* end_at_once(void*) {
  return nullptr;
}

// Passes a baton: each thread makes the next one and ends.
Board* g_board;
void* make_the_next(void*) {
  ++g_board->count;
  pthread_t thread;
  pthread_attr_t detached;
  pthread_attr_init(&detached);
  pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
  while (pthread_create(&thread, &detached, make_the_next, nullptr) != 0) {
  }
  return nullptr;
}

}  // namespace

TEST_CASE("threads that come and go all the time are all caught, and go on") {
  Shared<Board> board;
  g_board = &*board;
  Child child([&] {
    make_the_next(nullptr);
    pthread_t thread;
    for (;;) {
      if (pthread_create(&thread, nullptr, end_at_once, nullptr) == 0) pthread_join(thread, nullptr);
    }
  });
  for (int round = 0; round < 20; ++round) {
    REQUIRE(eventually([&, seen = board->count.load()] { return board->count > seen; }));
    auto tree = freeze_tree(child.pid(), {});
    std::set<pid_t> traced;
    for (const Tracee& tracee : tree.root().threads) traced.insert(tracee.tid());
    CHECK(tree.root().leader().tid() == child.pid());
    CHECK(traced.contains(child.pid()));
    long count = board->count;
    ::usleep(2000);
    CHECK(board->count == count);
  }
}

TEST_CASE("a tree that forks all the time is frozen whole") {
  Shared<Board> board;
  Child child([&] {
    for (int i = 0; i < 3; ++i) {
      if (::fork() != 0) continue;
      for (;;) {
        pid_t grandchild = ::fork();
        if (grandchild == 0) {
          ++board->count;
          ::_exit(0);
        }
        ::waitpid(grandchild, nullptr, 0);
      }
    }
    sleep_for_ever();
  });
  REQUIRE(eventually([&] { return board->count > 10; }));
  for (int round = 0; round < 10; ++round) {
    auto tree = freeze_tree(child.pid(), {});
    CHECK(tree.processes().size() >= 4);
    long count = board->count;
    ::usleep(2000);
    CHECK(board->count == count);
    std::set<pid_t> seen{tree.root().ppid};
    for (const auto& process : tree.processes()) {
      CHECK(seen.contains(process.ppid));
      seen.insert(process.pid);
    }
    tree.thaw();
    CHECK(eventually([&] { return board->count > count; }));
  }
}

TEST_CASE("a program that gets signals all the time is frozen, and gets every one of them") {
  Shared<Board> board;
  g_board = &*board;
  Child child([] {
    struct sigaction action {};
    action.sa_handler = [](int) { ++g_board->count; };
    ::sigaction(SIGRTMIN, &action, nullptr);
    g_board->ready = 1;
    sleep_for_ever();
  });
  REQUIRE(eventually([&] { return board->ready == 1; }));
  long sent = 0;
  for (int round = 0; round < 200; ++round) {
    for (int i = 0; i < 5; ++i) sent += ::sigqueue(child.pid(), SIGRTMIN, {}) == 0;
    auto tree = freeze_tree(child.pid(), {});
    sent += ::sigqueue(child.pid(), SIGRTMIN, {}) == 0;
    CHECK(!tree.root().leader().pending_shared_signals().empty());
  }
  CHECK(eventually([&] { return board->count == sent; }));
}

TEST_CASE("zombies come with their exit status") {
  Child child([] {
    if (::fork() == 0) ::_exit(7);
    if (::fork() == 0) ::raise(SIGKILL);
    sleep_for_ever();
  });
  auto count_zombies = [&] {
    auto tree = freeze_tree(child.pid(), {});
    return std::count_if(tree.processes().begin(), tree.processes().end(),
                         [](const auto& process) { return process.state == ProcessState::kZombie; });
  };
  REQUIRE(eventually([&] { return count_zombies() == 2; }));
  auto tree = freeze_tree(child.pid(), {});
  std::set<int> statuses;
  for (const auto& process : tree.processes()) {
    if (process.state != ProcessState::kZombie) continue;
    CHECK(process.ppid == child.pid());
    CHECK(process.threads.empty());
    statuses.insert(process.exit_status);
  }
  CHECK(statuses == std::set<int>{7 << 8, SIGKILL});
}

TEST_CASE("a stopped program is known as such, and stays stopped") {
  Child child(sleep_for_ever);
  ::kill(child.pid(), SIGTSTP);
  REQUIRE(eventually([&] { return state_of(child.pid()) == 'T'; }));
  {
    auto tree = freeze_tree(child.pid(), {});
    CHECK(tree.root().stop_signal == SIGTSTP);
    CHECK(tree.root().leader().frozen().in == FrozenIn::kGroupStop);
    CHECK(state_of(child.pid()) == 't');
  }
  CHECK(eventually([&] { return state_of(child.pid()) == 'T'; }));
  ::kill(child.pid(), SIGCONT);
  CHECK(eventually([&] { return state_of(child.pid()) == 'S'; }));
}

TEST_CASE("thaw_stopped leaves a stopped program, kill_all none") {
  Child child(sleep_for_ever);
  freeze_tree(child.pid(), {}).thaw_stopped();
  CHECK(eventually([&] { return state_of(child.pid()) == 'T'; }));
  freeze_tree(child.pid(), {}).kill_all();
  int status = child.wait();
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGKILL);
}

TEST_CASE("kill_all ends a tree with threads, and the parents hear of it") {
  Child child([] {
    pthread_t thread;
    for (int i = 0; i < 5; ++i)
      pthread_create(
          &thread, nullptr,
          [](void*) -> void* {
            sleep_for_ever();
            return nullptr;
          },
          nullptr);
    if (::fork() == 0) sleep_for_ever();
    sleep_for_ever();
  });
  ::usleep(20'000);
  auto tree = freeze_tree(child.pid(), {});
  CHECK(tree.processes().size() == 2);
  tree.kill_all();
  CHECK(WTERMSIG(child.wait()) == SIGKILL);
}

TEST_CASE("a traced program is refused with its tracer's name") {
  Shared<Board> board;
  Child child(sleep_for_ever);
  Child tracer([&] {
    ::prctl(PR_SET_NAME, "a_debugger");
    ::ptrace(PTRACE_SEIZE, child.pid(), nullptr, nullptr);
    board->ready = 1;
    sleep_for_ever();
  });
  REQUIRE(eventually([&] { return board->ready == 1; }));
  CHECK(failure_of(child.pid()) == fmt::format("pid {} (thread {}) is traced already, by pid {} (a_debugger)",
                                               child.pid(), child.pid(), tracer.pid()));
}

TEST_CASE("what cannot be frozen is refused in one line") {
  Child child(sleep_for_ever);
  pid_t gone;
  {
    Child brief([] {});
    gone = brief.pid();
  }
  CHECK(failure_of(gone) == fmt::format("pid {}: no such process", gone));
  CHECK(failure_of(::getpid()) == fmt::format("pid {} is this program itself", ::getpid()));
  CHECK(failure_of(2).find("a kernel thread cannot be dumped") != std::string::npos);
  Child parent([&] {
    // Its child freezes it, and so finds itself in the tree.
    if (::fork() == 0) {
      std::string failure = failure_of(::getppid());
      ::_exit(failure == fmt::format("this program itself (pid {}) is in the tree of pid {}", ::getpid(),
                                     ::getppid())
                  ? 0
                  : 1);
    }
    int status = -1;
    ::wait(&status);
    ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 2);
  });
  CHECK(parent.wait() == 0);
}

TEST_CASE("a parent in vfork is let wait for its child") {
  Shared<Board> board;
  Child child([&] {
    board->ready = 1;
    pid_t made = ::vfork();
    if (made == 0) {
      ::usleep(300'000);
      ::_exit(3);
    }
    board->count = 1;
    sleep_for_ever();
  });
  REQUIRE(eventually([&] { return board->ready == 1; }));
  ::usleep(50'000);
  auto tree = freeze_tree(child.pid(), {});
  CHECK(board->count == 0);
  CHECK(tree.processes().size() == 2);
  CHECK(tree.processes()[1].state == ProcessState::kZombie);
  tree.thaw();
  CHECK(eventually([&] { return board->count == 1; }));
}

TEST_CASE("a vfork that does not end is refused by name when the time is up") {
  Shared<Board> board;
  Child child([&] {
    board->ready = 1;
    if (::vfork() == 0) {
      board->pid = ::getpid();
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::sleep(60);
      ::_exit(0);
    }
    sleep_for_ever();
  });
  REQUIRE(eventually([&] { return board->pid != 0; }));
  std::string failure = failure_of(child.pid(), std::chrono::milliseconds(100));
  CHECK(failure.find(
            fmt::format("pid {} (thread {}) waits in vfork for its child", child.pid(), child.pid())) == 0);
  ::kill(board->pid, SIGKILL);
}

TEST_CASE("the root's end during the freeze is an error, a child's end is not") {
  int froze = 0, exited = 0;
  constexpr int kRounds = 40;
  for (int round = 0; round < kRounds; ++round) {
    Child child([&] {
      for (int i = 0; i < 4; ++i) {
        if (::fork() == 0) {
          ::usleep(static_cast<unsigned>(500 * i));
          ::_exit(0);
        }
      }
      ::usleep(static_cast<unsigned>(round == kRounds - 1 ? 10'000'000 : 100 * round));
      ::_exit(0);
    });
    // The first round's root has surely ended, the last one's surely not; in between it is left to chance.
    if (round == 0) REQUIRE(eventually([&] { return child.has_ended(); }));
    ::usleep(1500);
    std::string failure = failure_of(child.pid());
    bool expected = failure.empty() || failure.find("exited") != std::string::npos;
    CHECK_MESSAGE(expected, failure);
    ++(failure.empty() ? froze : exited);
  }
  MESSAGE("frozen " << froze << ", exited " << exited);
  CHECK(froze > 0);
  CHECK(exited > 0);
}
