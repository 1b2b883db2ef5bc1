// A job that was started from a shell: its terminal becomes the one that the restore runs on.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <termios.h>

#include "engine/base/error.h"
#include "tests/support/file_holder.h"

using namespace godwit;
using test::FileDump;
using test::FileHolder;

namespace {

struct Terminal {
  Fd master, slave;
  Terminal() {
    int ends[2];
    check(::openpty(&ends[0], &ends[1], nullptr, nullptr, nullptr), "openpty");
    master.reset(ends[0]);
    slave.reset(ends[1]);
  }
  std::string path() const { return ::ttyname(slave.get()); }
};

std::string plan_of(files::FileOpener& opener) {
  kinds::Problems problems;
  opener.plan(problems);
  return FileDump::joined(problems);
}

}  // namespace

TEST_CASE("a shell's job gets the terminal of the restore, in the modes of its old one") {
  Terminal old;
  std::string path = old.path();
  FileHolder job([&] {
    // The leader of a group cannot begin a session; Child makes it one, at a moment of its own.
    while (::setsid() < 0) ::setpgid(0, ::getpgid(::getppid()));
    check(::open(path.c_str(), O_RDWR), "open");  // and it controls us
    ::dup2(0, 1);
    ::dup2(0, 2);
    termios modes{};
    check(::tcgetattr(0, &modes), "tcgetattr");
    modes.c_lflag &= static_cast<tcflag_t>(~(ICANON | ECHO));
    modes.c_cc[VMIN] = 7;
    check(::tcsetattr(0, TCSANOW, &modes), "tcsetattr");
  });
  FileDump refused;
  refused.add(job);
  CHECK(refused.problems().find(path + ": is a terminal: pass --shell-job (-j)") != std::string::npos);

  FileDump dump({.shell_job = true});
  dump.add(job);
  REQUIRE(dump.problems() == "");
  auto without = dump.opener();
  CHECK(plan_of(*without).find("pass --shell-job (-j)") != std::string::npos);
  auto info = dump.images().open(images::Kind::kTtyInfo).read_one<pb::tty_info_entry>();
  CHECK(info.sid() == static_cast<uint32_t>(job.pid()));
  CHECK(info.pgrp() == static_cast<uint32_t>(job.pid()));

  Terminal fresh;
  Fd saved(::dup(STDIN_FILENO));
  ::dup2(fresh.slave.get(), STDIN_FILENO);
  auto files = dump.opener({.shell_job = true});
  CHECK(plan_of(*files) == "");
  CHECK(dump.row(1, 0).id() == dump.row(1, 2).id());
  int fd = files->open(dump.row(1, 0).id());
  Fd null = open_at(AT_FDCWD, "/dev/null", O_RDONLY);
  ::dup2(null.get(), STDIN_FILENO);
  auto no_terminal = dump.opener({.shell_job = true});
  CHECK(plan_of(*no_terminal) == "--shell-job: the standard input of criu is not a terminal");
  if (saved) ::dup2(saved.get(), STDIN_FILENO);

  CHECK(std::string(::ttyname(fd)) == fresh.path());
  termios modes{};
  REQUIRE(::tcgetattr(fd, &modes) == 0);
  CHECK((modes.c_lflag & (ICANON | ECHO)) == 0);
  CHECK(modes.c_cc[VMIN] == 7);
  CHECK(::write(fd, "hello", 5) == 5);
  char text[5];
  CHECK(::read(fresh.master.get(), text, 5) == 5);
}

TEST_CASE("two terminals are one too many") {
  Terminal one, two;
  FileHolder job([paths = std::pair(one.path(), two.path())] {
    check(::open(paths.first.c_str(), O_RDWR | O_NOCTTY), "open");
    check(::open(paths.second.c_str(), O_RDWR | O_NOCTTY), "open");
  });
  FileDump dump({.shell_job = true});
  dump.add(job);
  CHECK(dump.problems().find("a second terminal beside pts/") != std::string::npos);
}
