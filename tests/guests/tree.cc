// tree REPORT: a process tree: children in groups and sessions of their own, a pipeline between two of them,
// a grandchild, a zombie that is not reaped, a stopped child. The root checks all of them.
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "guest.h"

namespace {

struct Expected {
  pid_t pid, pgid, sid;
};

// By system calls only: a dump that falls into a round would find an open file of /proc.
void check(const Expected& expected, guest::Report& report) {
  EXPECT(::getpgid(expected.pid) == expected.pgid && ::getsid(expected.pid) == expected.sid);
}

// Whether it is a child of the calling process, and runs.
bool is_running_child(pid_t pid) {
  siginfo_t info{};
  return ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WSTOPPED | WNOHANG | WNOWAIT) == 0 &&
         info.si_pid == 0;
}

[[noreturn]] void echo(int from, int to) {
  for (char byte; ::read(from, &byte, 1) == 1;) {
    ++byte;
    if (::write(to, &byte, 1) != 1) break;
  }
  _exit(1);
}

}  // namespace

int main(int, char** argv) {
  guest::Report report(argv[1]);
  pid_t root = ::getpid();
  int to_first[2], to_second[2], back[2], told[2];
  EXPECT(::pipe(to_first) == 0 && ::pipe(to_second) == 0 && ::pipe(back) == 0 && ::pipe(told) == 0);
  pid_t first = ::fork();
  if (first == 0) {
    ::setpgid(0, 0);
    echo(to_first[0], to_second[1]);
  }
  ::setpgid(first, first);
  pid_t second = ::fork();
  if (second == 0) {
    ::setpgid(0, first);
    echo(to_second[0], back[1]);
  }
  ::setpgid(second, first);
  pid_t leader = ::fork();
  if (leader == 0) {
    ::setsid();
    pid_t grandchild = ::fork();
    if (grandchild == 0) {
      for (;;) ::pause();
    }
    EXPECT(::write(told[1], &grandchild, sizeof grandchild) == sizeof grandchild);
    for (;;) {
      EXPECT(is_running_child(grandchild) && ::getppid() == root);
      usleep(2000);
    }
  }
  pid_t grandchild = 0;
  EXPECT(::read(told[0], &grandchild, sizeof grandchild) == sizeof grandchild);
  pid_t zombie = ::fork();
  if (zombie == 0) _exit(42);
  pid_t killed = ::fork();
  if (killed == 0) {
    for (;;) ::pause();
  }
  ::kill(killed, SIGTERM);
  siginfo_t info{};
  EXPECT(::waitid(P_PID, static_cast<id_t>(zombie), &info, WEXITED | WNOWAIT) == 0);
  EXPECT(::waitid(P_PID, static_cast<id_t>(killed), &info, WEXITED | WNOWAIT) == 0);
  pid_t stopped = ::fork();
  if (stopped == 0) {
    for (;;) ::pause();
  }
  ::kill(stopped, SIGSTOP);
  EXPECT(::waitid(P_PID, static_cast<id_t>(stopped), &info, WSTOPPED | WNOWAIT) == 0);

  for (;;) {
    check({first, first, root}, report);
    check({second, first, root}, report);
    check({leader, leader, leader}, report);
    check({grandchild, leader, leader}, report);
    check({zombie, root, root}, report);
    check({killed, root, root}, report);
    check({stopped, root, root}, report);
    EXPECT(is_running_child(first) && is_running_child(second) && is_running_child(leader));
    EXPECT(::waitid(P_PID, static_cast<id_t>(stopped), &info, WSTOPPED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == stopped && info.si_code == CLD_STOPPED);
    EXPECT(::waitid(P_PID, static_cast<id_t>(zombie), &info, WEXITED | WNOWAIT) == 0 &&
           info.si_code == CLD_EXITED && info.si_status == 42);
    EXPECT(::waitid(P_PID, static_cast<id_t>(killed), &info, WEXITED | WNOWAIT) == 0 &&
           info.si_code == CLD_KILLED && info.si_status == SIGTERM);
    char byte = 'a';
    EXPECT(::write(to_first[1], &byte, 1) == 1 && ::read(back[0], &byte, 1) == 1 && byte == 'c');
    report.tick();
    usleep(2000);
  }
}
