// self_cure BOARD: eight threads that notice when anything was done to them: a call that is interrupted, a
// register or a flag or a vector that changes, a signal mask that is not theirs. BOARD is a file with a
// SelfCureBoard.
#include "self_cure_board.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace {

using Role = SelfCureBoard::Role;

SelfCureBoard* g_board;

void expect(bool good, Role role, int line) {
  if (good) return;
  long none = 0;
  g_board->first_failure.compare_exchange_strong(none, role * 1000 + line);
  ++g_board->failures;
}

double now() {
  timespec time;
  ::clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

uint64_t mask_now() {
  uint64_t mask = 0;
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, nullptr, &mask, sizeof mask);
  return mask;
}

void set_mask(uint64_t mask) {
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, nullptr, sizeof mask);
}

// Twelve registers, the flags and the red zone hold their values while a counter in one of them runs out.
bool registers_survive() {
  uint64_t wrong = 0;
  asm volatile(
      "movq $0x5a5a5a5a, -64(%%rsp)\n"
      "mov $1, %%rbx\n mov $2, %%rcx\n mov $3, %%rdx\n mov $4, %%rsi\n mov $5, %%rdi\n"
      "mov $6, %%r8\n mov $7, %%r9\n mov $8, %%r10\n mov $9, %%r11\n mov $10, %%r12\n mov $11, %%r13\n"
      "mov $20000, %%r14\n"
      "1: mov $0x7fffffff, %%eax\n add $1, %%eax\n"  // overflow, sign and parity, no carry
      "pause\n"
      "jno 2f\n jns 2f\n jnp 2f\n jc 2f\n"
      "mov $-1, %%rax\n add $1, %%rax\n"  // carry and zero, no overflow
      "pause\n"
      "jnc 2f\n jnz 2f\n jo 2f\n"
      "dec %%r14\n jnz 1b\n jmp 3f\n"
      "2: mov $1000000, %%r14\n"
      "3: cmpq $0x5a5a5a5a, -64(%%rsp)\n je 4f\n mov $1000000, %%r14\n"
      "4: add %%rbx, %%r14\n add %%rcx, %%r14\n add %%rdx, %%r14\n add %%rsi, %%r14\n add %%rdi, %%r14\n"
      "add %%r8, %%r14\n add %%r9, %%r14\n add %%r10, %%r14\n add %%r11, %%r14\n add %%r12, %%r14\n"
      "add %%r13, %%r14\n"
      "mov %%r14, %0\n"
      : "=m"(wrong)
      :
      : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "cc",
        "memory");
  return wrong == 66;
}

bool vectors_survive() {
  alignas(16) uint64_t in[2] = {0x0123456789abcdef, 0xfedcba9876543210}, out[2] = {};
  asm volatile(
      "movaps %1, %%xmm7\n movaps %1, %%xmm15\n mov $20000, %%ecx\n"
      "1: pause\n dec %%ecx\n jnz 1b\n"
      "pxor %%xmm15, %%xmm7\n paddq %%xmm15, %%xmm7\n movaps %%xmm7, %0\n"
      : "=m"(out)
      : "m"(in)
      : "ecx", "xmm7", "xmm15", "cc", "memory");
  return memcmp(in, out, sizeof in) == 0;
}

void wait_in_poll() {
  double start = now();
  int result = ::poll(nullptr, 0, 30);
  expect(result == 0, Role::kPoll, __LINE__);
  expect(now() - start > 0.0295, Role::kPoll, __LINE__);
}

void sleep_a_little(Role role) {
  timespec pause{0, 20'000'000};
  expect(::nanosleep(&pause, nullptr) == 0, role, __LINE__);
}

void wait_for_futex() {
  static uint32_t word = 0;
  timespec limit{0, 25'000'000};
  long result = ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &limit, nullptr, 0);
  expect(result < 0 && errno == ETIMEDOUT, Role::kFutex, __LINE__);
}

void check_blocked() {
  expect(mask_now() == (~uint64_t{0} & ~(uint64_t{1} << (SIGKILL - 1)) & ~(uint64_t{1} << (SIGSTOP - 1))),
         Role::kBlocked, __LINE__);
  expect(::syscall(SYS_gettid) == g_board->tids[Role::kBlocked], Role::kBlocked, __LINE__);
}

void on_signal(int) {
  ++g_board->handled;
}

// Lets these calls through and does `otherwise` with any other.
void install_filter(const unsigned* calls, size_t count, uint32_t otherwise) {
  sock_filter program[64];
  size_t size = 0;
  program[size++] = BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr));
  for (size_t i = 0; i < count; ++i) {
    program[size++] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], 0, 1);
    program[size++] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  }
  program[size++] = BPF_STMT(BPF_RET | BPF_K, otherwise);
  sock_fprog filter{static_cast<unsigned short>(size), program};
  ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter, 0, 0) != 0) abort();
}

// As a sandboxed service has it: any other call is death.
void enter_filter() {
  const unsigned calls[] = {SYS_nanosleep,    SYS_clock_nanosleep, SYS_restart_syscall,
                            SYS_rt_sigreturn, SYS_rt_sigprocmask,  SYS_gettid,
                            SYS_getppid,      SYS_tgkill,          SYS_futex,
                            SYS_exit,         SYS_exit_group};
  install_filter(calls, sizeof calls / sizeof calls[0], SECCOMP_RET_KILL_PROCESS);
}

// Two calls and an error for every other; and all signals are blocked.
void enter_nearly_strict() {
  set_mask(~uint64_t{0});
  const unsigned calls[] = {SYS_rt_sigreturn, SYS_sched_yield};
  install_filter(calls, sizeof calls / sizeof calls[0], SECCOMP_RET_ERRNO | EACCES);
}

void run_filtered() {
  timespec pause{0, 3'000'000};
  // A signal's handler may interrupt this one.
  expect(::nanosleep(&pause, nullptr) == 0 || errno == EINTR, Role::kFiltered, __LINE__);
  expect(mask_now() == 0, Role::kFiltered, __LINE__);
}

void run_nearly_strict() {
  expect(::syscall(SYS_sched_yield) == 0, Role::kNearlyStrict, __LINE__);
  expect(::syscall(SYS_getppid) == -1 && errno == EACCES, Role::kNearlyStrict, __LINE__);
  expect(registers_survive(), Role::kNearlyStrict, __LINE__);
  expect(vectors_survive(), Role::kNearlyStrict, __LINE__);
}

void one_round(Role role) {
  switch (role) {
    case Role::kBusy:
      return expect(registers_survive(), role, __LINE__);
    case Role::kPoll:
      return wait_in_poll();
    case Role::kSleep:
      return sleep_a_little(role);
    case Role::kFutex:
      return wait_for_futex();
    case Role::kBlocked:
      return check_blocked();
    case Role::kVector:
      return expect(vectors_survive(), role, __LINE__);
    case Role::kFiltered:
      return run_filtered();
    case Role::kNearlyStrict:
      return run_nearly_strict();
  }
}

void* run(void* argument) {
  auto role = static_cast<Role>(reinterpret_cast<uintptr_t>(argument));
  g_board->tids[role] = ::gettid();
  if (role == Role::kBlocked) set_mask(~uint64_t{0});
  if (role == Role::kFiltered) enter_filter();
  if (role == Role::kNearlyStrict) enter_nearly_strict();
  for (;;) {
    one_round(role);
    ++g_board->rounds[role];
  }
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return 2;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  int fd = ::open(arguments[1], O_RDWR | O_CLOEXEC);
  void* page = ::mmap(nullptr, sizeof(SelfCureBoard), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (page == MAP_FAILED) return 2;
  ::close(fd);
  g_board = static_cast<SelfCureBoard*>(page);
  ::signal(SIGTRAP, SIG_IGN);
  ::signal(SIGUSR1, on_signal);
  for (uintptr_t role = 1; role < SelfCureBoard::kThreads; ++role) {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, run, reinterpret_cast<void*>(role)) != 0) return 2;
  }
  run(nullptr);
}
