// tree REPORT: a process tree: children in groups and sessions of their own, a pipeline between two of them,
// a grandchild, a zombie that is not reaped, a stopped child. The root checks all of them.
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include <string>

#include "guest.h"

namespace {

struct Expected {
  pid_t pid, ppid, pgid, sid;
};

// Fields of /proc/PID/stat after the command name.
bool stat_of(pid_t pid, char& state, Expected& found) {
  char path[64], text[1024] = {};
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE* file = fopen(path, "re");
  if (file == nullptr) return false;
  size_t length = fread(text, 1, sizeof text - 1, file);
  fclose(file);
  if (length == 0) return false;
  found.pid = pid;
  return sscanf(strrchr(text, ')') + 2, "%c %d %d %d", &state, &found.ppid, &found.pgid, &found.sid) == 4;
}

void check(const Expected& expected, char state, guest::Report& report) {
  Expected found{};
  char seen = '?';
  EXPECT(stat_of(expected.pid, seen, found));
  EXPECT(found.ppid == expected.ppid && found.pgid == expected.pgid && found.sid == expected.sid);
  if (state != '*') EXPECT(seen == state);
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
    for (;;) ::pause();
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
    check({first, root, first, root}, '*', report);
    check({second, root, first, root}, '*', report);
    check({leader, root, leader, leader}, '*', report);
    check({grandchild, leader, leader, leader}, '*', report);
    check({zombie, root, root, root}, 'Z', report);
    check({killed, root, root, root}, 'Z', report);
    check({stopped, root, root, root}, 'T', report);
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
