// threads REPORT busy|sleeping|filtered|filtered-kill: eight threads that check their masks, numbers, actions
// and memory. busy: they compute; sleeping: each is blocked in another call; filtered: under a seccomp filter
// that refuses, or kills for, a call that it does not use. A round is one of every thread. No call may be
// interrupted, except after a restore, of which the file REPORT.restored tells: the restart block of a timed
// wait is lost then.
#include <errno.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#include <string>

#include "guest.h"

namespace {

constexpr int kThreads = 8;
constexpr size_t kWords = 16384;

struct Shared {
  guest::Report report;
  std::string restored;
  bool sleeping = false;
  std::atomic<unsigned long> rounds[kThreads]{};
  int pipe_ends[2]{};
  int quiet_pipe[2]{};
  int epoll = -1;
  std::atomic<uint32_t> word{0};
};

Shared* g_shared;
void on_usr1(int) {}

bool was_restored() {
  return ::access(g_shared->restored.c_str(), F_OK) == 0;
}

// A timed wait ended as it should.
void check_wait(bool as_expected, int line) {
  int error = errno;
  if (!as_expected && !(error == EINTR && was_restored()))
    g_shared->report.fail("line %d: the wait ended with %s", line, strerror(error));
}

void set_filter(uint32_t otherwise) {
  const unsigned calls[] = {SYS_openat,          SYS_pwrite64,       SYS_write,          SYS_close,
                            SYS_lseek,           SYS_rt_sigreturn,   SYS_futex,          SYS_nanosleep,
                            SYS_clock_nanosleep, SYS_gettid,         SYS_access,         SYS_fstat,
                            SYS_newfstatat,      SYS_rt_sigprocmask, SYS_rt_sigaction,   SYS_brk,
                            SYS_exit_group,      SYS_mmap,           SYS_restart_syscall};
  constexpr size_t kCalls = sizeof calls / sizeof calls[0];
  sock_filter program[2 * kCalls + 2];
  unsigned short size = 0;
  program[size++] = BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr));
  for (unsigned call : calls) {
    program[size++] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1);
    program[size++] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  }
  program[size++] = BPF_STMT(BPF_RET | BPF_K, otherwise);
  sock_fprog filter{size, program};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
      ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &filter) != 0)
    abort();
}

void doze(long nanoseconds) {
  timespec pause{0, nanoseconds};
  check_wait(::syscall(SYS_nanosleep, &pause, nullptr) == 0, __LINE__);
}

void block(int number) {
  char byte = 0;
  switch (number) {
    case 1: {
      pollfd quiet{g_shared->quiet_pipe[0], POLLIN, 0};
      return check_wait(::poll(&quiet, 1, 15) == 0, __LINE__);
    }
    case 2: {
      timespec timeout{0, 12'000'000};
      uint32_t mine = 0;
      return check_wait(
          ::syscall(SYS_futex, &mine, FUTEX_WAIT_PRIVATE, 0, &timeout) == -1 && errno == ETIMEDOUT, __LINE__);
    }
    case 3:
      return check_wait(::read(g_shared->pipe_ends[0], &byte, 1) == 1 && byte == 'p', __LINE__);
    case 4:
      doze(9'000'000);
      return check_wait(::write(g_shared->pipe_ends[1], "p", 1) == 1, __LINE__);
    case 5: {
      epoll_event event;
      // A stop of any kind interrupts it, whoever stops us: signal(7).
      int count = ::epoll_wait(g_shared->epoll, &event, 1, 20);
      if (count != 0 && !(count == -1 && errno == EINTR)) check_wait(false, __LINE__);
      return;
    }
    case 6: {
      // Without a time limit: restarted as it is, also after a restore.
      uint32_t seen = g_shared->word;
      long outcome = ::syscall(SYS_futex, &g_shared->word, FUTEX_WAIT_PRIVATE, seen, nullptr);
      if (outcome != 0 && errno != EAGAIN) check_wait(false, __LINE__);
      return;
    }
    default:
      return doze(11'000'000);
  }
}

uint64_t mask_now() {
  uint64_t mask = 0;
  ::syscall(SYS_rt_sigprocmask, SIG_BLOCK, nullptr, &mask, sizeof mask);
  return mask;
}

void check_action(guest::Report& report) {
  struct sigaction action {};
  EXPECT(::sigaction(SIGUSR1, nullptr, &action) == 0 && action.sa_handler == on_usr1 &&
         sigismember(&action.sa_mask, SIGUSR2) == 1);
}

void* run(void* argument) {
  auto number = static_cast<int>(reinterpret_cast<uintptr_t>(argument));
  guest::Report& report = g_shared->report;
  uint64_t mask = uint64_t{1} << (40 + number);
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, nullptr, sizeof mask);
  long tid = ::syscall(SYS_gettid);
  static uint64_t memory[kThreads][kWords];
  uint64_t* words = memory[number];
  for (size_t i = 0; i < kWords; ++i) words[i] = i * static_cast<uint64_t>(number + 3);
  unsigned long ticked[kThreads] = {};
  for (uint64_t round = 0;; ++round) {
    EXPECT(mask_now() == mask);
    EXPECT(::syscall(SYS_gettid) == tid);
    for (size_t i = 0; i < kWords; ++i) {
      if (words[i] != i * static_cast<uint64_t>(number + 3) + round) {
        report.fail("thread %d: word %zu is %lx in round %lu", number, i, words[i], round);
        break;
      }
      ++words[i];
    }
    if (g_shared->sleeping) block(number);
    ++g_shared->rounds[number];
    if (number != 0) continue;
    check_action(report);
    ++g_shared->word;
    ::syscall(SYS_futex, &g_shared->word, FUTEX_WAKE_PRIVATE, 1);
    bool all = true;
    for (int i = 0; i < kThreads; ++i) all = all && g_shared->rounds[i] > ticked[i];
    if (!all) continue;
    for (int i = 0; i < kThreads; ++i) ticked[i] = g_shared->rounds[i];
    report.tick();
  }
}

}  // namespace

int main(int, char** argv) {
  static Shared shared{.report = guest::Report(argv[1]), .restored = std::string(argv[1]) + ".restored"};
  g_shared = &shared;
  guest::Report& report = shared.report;
  std::string mode = argv[2];
  shared.sleeping = mode == "sleeping";
  EXPECT(::pipe(shared.pipe_ends) == 0 && ::pipe(shared.quiet_pipe) == 0);
  shared.epoll = ::epoll_create1(0);
  epoll_event event{EPOLLIN, {}};
  EXPECT(::epoll_ctl(shared.epoll, EPOLL_CTL_ADD, shared.quiet_pipe[0], &event) == 0);
  struct sigaction action {};
  action.sa_handler = on_usr1;
  sigaddset(&action.sa_mask, SIGUSR2);
  EXPECT(::sigaction(SIGUSR1, &action, nullptr) == 0);
  for (uintptr_t number = 1; number < kThreads; ++number) {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, run, reinterpret_cast<void*>(number)) != 0)
      report.fail("pthread_create");
  }
  if (mode.starts_with("filtered")) {
    for (int number = 1; number < kThreads; ++number) {
      while (shared.rounds[number] == 0) usleep(1000);  // what starts a thread is not in the filter
    }
    set_filter(mode == "filtered-kill" ? SECCOMP_RET_KILL_PROCESS : SECCOMP_RET_ERRNO | EPERM);
  }
  run(nullptr);
}
