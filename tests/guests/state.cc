// state REPORT: everything that the kernel keeps of a process besides memory and files, set to unusual values
// and checked again and again. Runs as another user with few capabilities.
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include "guest.h"

namespace {

volatile sig_atomic_t g_usr1 = 0;
void on_usr1(int, siginfo_t* info, void*) {
  g_usr1 = info->si_value.sival_int;
}
void on_alarm(int) {}

char g_alternate[65536];

void set_credentials(guest::Report& report) {
  gid_t groups[] = {7, 4242};
  EXPECT(::setgroups(2, groups) == 0);
  EXPECT(::prctl(PR_SET_KEEPCAPS, 1) == 0);
  EXPECT(::setresgid(1001, 1002, 1003) == 0);
  EXPECT(::setresuid(2001, 2002, 2003) == 0);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  data[0].permitted = 1u << CAP_NET_RAW | 1u << CAP_KILL;
  data[0].effective = 1u << CAP_KILL;
  data[0].inheritable = 1u << CAP_NET_RAW;
  EXPECT(::syscall(SYS_capset, &header, data) == 0);
  EXPECT(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0) == 0);
  EXPECT(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
}

void check_credentials(guest::Report& report) {
  uid_t r, e, s;
  EXPECT(::getresuid(&r, &e, &s) == 0 && r == 2001 && e == 2002 && s == 2003);
  EXPECT(::getresgid(&r, &e, &s) == 0 && r == 1001 && e == 1002 && s == 1003);
  gid_t groups[8] = {};
  EXPECT(::getgroups(8, groups) == 2 && groups[0] == 7 && groups[1] == 4242);
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  EXPECT(::syscall(SYS_capget, &header, data) == 0);
  EXPECT(data[0].permitted == (1u << CAP_NET_RAW | 1u << CAP_KILL) && data[0].effective == 1u << CAP_KILL);
  EXPECT(data[0].inheritable == 1u << CAP_NET_RAW && data[1].permitted == 0);
  EXPECT(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_RAW, 0, 0) == 1);
  EXPECT(::prctl(PR_CAPBSET_READ, CAP_SYS_BOOT, 0, 0, 0) == 0);
  EXPECT(::prctl(PR_CAPBSET_READ, CAP_KILL, 0, 0, 0) == 1);
  EXPECT(::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
  EXPECT(::prctl(PR_GET_DUMPABLE) == 1);
}

void set_signals(guest::Report& report) {
  struct sigaction action {};
  action.sa_sigaction = on_usr1;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  sigaddset(&action.sa_mask, SIGUSR2);
  EXPECT(::sigaction(SIGUSR1, &action, nullptr) == 0);
  ::signal(SIGALRM, on_alarm);
  ::signal(SIGHUP, SIG_IGN);
  ::signal(SIGURG, SIG_IGN);
  stack_t stack{g_alternate, 0, sizeof g_alternate};
  EXPECT(::sigaltstack(&stack, nullptr) == 0);
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGRTMIN);
  sigaddset(&blocked, SIGUSR1);
  EXPECT(::sigprocmask(SIG_SETMASK, &blocked, nullptr) == 0);
  sigval value;
  for (int i = 1; i <= 3; ++i) {
    value.sival_int = 1000 + i;
    EXPECT(::sigqueue(::getpid(), SIGRTMIN, value) == 0);
  }
}

void check_signals(guest::Report& report) {
  struct sigaction action {};
  EXPECT(::sigaction(SIGUSR1, nullptr, &action) == 0 && action.sa_sigaction == on_usr1);
  constexpr int kRestorer = 0x04000000;  // the C library adds it
  EXPECT((action.sa_flags & ~kRestorer) == (SA_SIGINFO | SA_ONSTACK | SA_RESTART) &&
         sigismember(&action.sa_mask, SIGUSR2) == 1);
  EXPECT(::sigaction(SIGHUP, nullptr, &action) == 0 && action.sa_handler == SIG_IGN);
  EXPECT(::sigaction(SIGTERM, nullptr, &action) == 0 && action.sa_handler == SIG_DFL);
  stack_t stack{};
  EXPECT(::sigaltstack(nullptr, &stack) == 0 && stack.ss_sp == g_alternate &&
         stack.ss_size == sizeof g_alternate);
  sigset_t blocked;
  EXPECT(::sigprocmask(SIG_SETMASK, nullptr, &blocked) == 0);
  EXPECT(sigismember(&blocked, SIGRTMIN) == 1 && sigismember(&blocked, SIGUSR1) == 1);
  EXPECT(sigismember(&blocked, SIGTERM) == 0);
  // Queued signals: take them out with their values, and queue them again.
  sigset_t realtime;
  sigemptyset(&realtime);
  sigaddset(&realtime, SIGRTMIN);
  timespec now{};
  for (int i = 1; i <= 3; ++i) {
    siginfo_t info{};
    EXPECT(::sigtimedwait(&realtime, &info, &now) == SIGRTMIN && info.si_value.sival_int == 1000 + i);
  }
  siginfo_t none{};
  EXPECT(::sigtimedwait(&realtime, &none, &now) == -1 && errno == EAGAIN);
  sigset_t empty;
  sigemptyset(&empty);
  EXPECT(::sigtimedwait(&realtime, &none, &now) == -1);
  for (int i = 1; i <= 3; ++i) {
    sigval value;
    value.sival_int = 1000 + i;
    EXPECT(::sigqueue(::getpid(), SIGRTMIN, value) == 0);
  }
}

void set_rest(guest::Report& report) {
  rlimit files{600, 700}, core{0, 4096};
  EXPECT(::setrlimit(RLIMIT_NOFILE, &files) == 0 && ::setrlimit(RLIMIT_CORE, &core) == 0);
  EXPECT(::prctl(PR_SET_NAME, "odd (name) 1") == 0);
  EXPECT(::setpriority(PRIO_PROCESS, 0, 7) == 0);
  EXPECT(::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
  EXPECT(::prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
  EXPECT(::chdir("/usr/lib") == 0);
  ::umask(0137);
  itimerval slow{{3000, 5}, {4000, 0}};
  EXPECT(::setitimer(ITIMER_REAL, &slow, nullptr) == 0);
}

void check_rest(guest::Report& report, timer_t timer) {
  rlimit limit{};
  EXPECT(::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur == 600 && limit.rlim_max == 700);
  EXPECT(::getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_cur == 0 && limit.rlim_max == 4096);
  char text[4096] = {};
  EXPECT(::prctl(PR_GET_NAME, text) == 0 && strcmp(text, "odd (name) 1") == 0);
  EXPECT(::getpriority(PRIO_PROCESS, 0) == 7);
  int subreaper = 0;
  EXPECT(::prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == 0 && subreaper == 1);
  EXPECT(::prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1);
  EXPECT(::getcwd(text, sizeof text) != nullptr && strcmp(text, "/usr/lib") == 0);
  EXPECT(::umask(0137) == 0137);
  itimerval left{};
  EXPECT(::getitimer(ITIMER_REAL, &left) == 0 && left.it_interval.tv_sec == 3000 &&
         left.it_value.tv_sec > 3000);
  itimerspec posix{};
  EXPECT(::timer_gettime(timer, &posix) == 0 && posix.it_value.tv_sec > 4000 &&
         posix.it_interval.tv_sec == 77);
  void* head = nullptr;
  size_t length = 0;
  EXPECT(::syscall(SYS_get_robust_list, 0, &head, &length) == 0 && head != nullptr && length == 24);
}

timer_t create_timers(guest::Report& report) {
  // The first is deleted, so that the one that stays has an id above 0.
  timer_t first, second;
  sigevent event{};
  event.sigev_notify = SIGEV_SIGNAL;
  event.sigev_signo = SIGUSR1;
  EXPECT(::timer_create(CLOCK_MONOTONIC, &event, &first) == 0);
  EXPECT(::timer_create(CLOCK_MONOTONIC, &event, &second) == 0);
  EXPECT(::timer_delete(first) == 0);
  itimerspec late{{77, 0}, {5000, 0}};
  EXPECT(::timer_settime(second, 0, &late, nullptr) == 0);
  return second;
}

}  // namespace

int main(int, char** argv) {
  guest::Report report(argv[1]);
  if (::chmod(argv[1], 0666) != 0) return 1;
  EXPECT(::prctl(PR_CAPBSET_DROP, CAP_SYS_BOOT, 0, 0, 0) == 0);
  set_rest(report);
  set_signals(report);
  timer_t timer = create_timers(report);
  set_credentials(report);
  EXPECT(::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0);
  EXPECT(::prctl(PR_SET_PDEATHSIG, 0) == 0);
  for (;;) {
    check_credentials(report);
    check_signals(report);
    check_rest(report, timer);
    report.tick();
    usleep(2000);
  }
}
