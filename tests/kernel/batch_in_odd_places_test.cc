// Batches in threads that are somewhere special: in an rseq critical section, under seccomp, in a group stop.
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/syscall.h>

#include <atomic>

#include "engine/base/fd.h"
#include "engine/kernel/proc_task.h"
#include "engine/tracee/freeze.h"
#include "engine/tracee/remote_caller.h"
#include "tests/support/child.h"
#include "tests/support/skip.h"

using namespace godwit;
using namespace godwit::tracee;
using test::Child;
using test::eventually;
using test::Shared;

namespace {

// What sigfillset and sigprocmask block: all but SIGKILL, SIGSTOP and the two of glibc's own.
constexpr uint64_t kAllBlocked = 0xfffffffe7ffbfeff;

int64_t pid_by_batch(FrozenTree& tree) {
  auto caller = RemoteCaller::for_running(tree.root().threads);
  Batch batch;
  auto pid = batch.call(SYS_getpid, {});
  for (int i = 0; i < 50; ++i) batch.call(SYS_getppid, {});
  return caller.run(tree.root().leader(), batch).check(pid, "getpid");
}

// Stays in an rseq critical section for ever; each abort is counted and enters it again. An abort that got
// lost would leave the thread in the section with nobody knowing that it is one.
[[noreturn]] void stay_in_critical_section(std::atomic<long>* aborts) {
  auto* area = reinterpret_cast<struct rseq*>(static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset);
  asm volatile(
      ".pushsection godwit_rseq_cs, \"aw\"\n.balign 32\n"
      "3: .long 0, 0\n.quad 1f, 2f - 1f, 4f\n.popsection\n"
      "5: leaq 3b(%%rip), %%rax\nmovq %%rax, %0\n"
      "1: pause\njmp 1b\n"
      "2: .byte 0x0f, 0xb9, 0x3d\n.long 0x53053053\n"  // the signature before every abort address
      "4: lock incq %1\njmp 5b\n"
      : "+m"(area->rseq_cs), "+m"(*aborts)
      :
      : "rax", "cc", "memory");
  __builtin_unreachable();
}

}  // namespace

TEST_CASE("an rseq critical section is aborted, not forgotten") {
  if (__rseq_size == 0) GODWIT_SKIP("glibc has not registered rseq");
  Shared<std::atomic<long>> aborts;
  Child child([&] { stay_in_critical_section(&*aborts); });
  ::usleep(20'000);
  int caught_inside = 0;
  for (int round = 0; round < 20; ++round) {
    long before;
    {
      auto tree = freeze_tree(child.pid(), {});
      before = *aborts;
      const auto& leader = tree.root().leader();
      CHECK(leader.rseq_configuration()->pointer != 0);
      caught_inside += leader.frozen().registers.rip != leader.registers().rip;
      CHECK(pid_by_batch(tree) == child.pid());
    }
    CHECK(eventually([&] { return *aborts > before; }));
  }
  // Now and then it is on its way from an abort back into the section.
  CHECK(caught_inside > 5);
}

TEST_CASE("a task in seccomp's strict mode runs batches and lives on") {
  Pipe to = Pipe::create(), from = Pipe::create();
  Child child([&] {
    ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT);
    char byte;
    while (::read(to.read_end.get(), &byte, 1) == 1) {
      ++byte;
      if (::write(from.write_end.get(), &byte, 1) != 1) break;
    }
    ::syscall(SYS_exit, 0);
  });
  auto ask = [&](char question) {
    char answer = 0;
    REQUIRE(::write(to.write_end.get(), &question, 1) == 1);
    REQUIRE(::read(from.read_end.get(), &answer, 1) == 1);
    return answer;
  };
  CHECK(ask('a') == 'b');
  for (int round = 0; round < 5; ++round) {
    auto tree = freeze_tree(child.pid(), {});
    CHECK(pid_by_batch(tree) == child.pid());
    tree.thaw();
    CHECK(ask('c') == 'd');
  }
  CHECK(kernel::read_task_status(child.pid(), child.pid()).seccomp == 1);
}

TEST_CASE("a group-stopped program runs batches and stays stopped") {
  Child child([] {
    for (;;) ::pause();
  });
  ::kill(child.pid(), SIGSTOP);
  auto state = [&] { return kernel::read_task_stat(child.pid(), child.pid()).state; };
  REQUIRE(eventually([&] { return state() == 'T'; }));
  {
    auto tree = freeze_tree(child.pid(), {});
    CHECK(pid_by_batch(tree) == child.pid());
  }
  CHECK(eventually([&] { return state() == 'T'; }));
  ::kill(child.pid(), SIGCONT);
  CHECK(eventually([&] { return state() == 'S'; }));
}

TEST_CASE("a thread that waits in sigsuspend goes on waiting with its own mask") {
  Shared<std::atomic<long>> woken;
  Child child([&] {
    ::signal(SIGUSR1, [](int) {});
    sigset_t blocked, open;
    sigfillset(&blocked);
    ::sigprocmask(SIG_SETMASK, &blocked, nullptr);
    sigfillset(&open);
    sigdelset(&open, SIGUSR1);
    for (;;) {
      ::sigsuspend(&open);
      ++*woken;
    }
  });
  auto blocked = [&] { return kernel::read_task_status(child.pid(), child.pid()).blocked; };
  REQUIRE(eventually([&] { return blocked() == (kAllBlocked & ~(uint64_t{1} << (SIGUSR1 - 1))); }));
  for (int round = 1; round <= 5; ++round) {
    auto tree = freeze_tree(child.pid(), {});
    CHECK(tree.root().leader().frozen().signal_mask == kAllBlocked);
    CHECK(pid_by_batch(tree) == child.pid());
    if (round % 2 == 0) ::kill(child.pid(), SIGUSR1);
    tree.thaw();
    if (round % 2 == 1) ::kill(child.pid(), SIGUSR1);
    CHECK(eventually([&] { return *woken == round; }));
  }
}
