// /proc texts as kernels write them, and as they might be.
#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "engine/base/error.h"
#include "engine/kernel/proc_maps.h"
#include "engine/kernel/proc_task.h"

namespace godwit::kernel {
namespace {

const std::string kMaps =
    "55e519b57000-55e519b59000 r--p 00000000 fe:00 10978422                   /usr/bin/dbus-daemon\n"
    "55e519b59000-55e519b5b000 r-xp 00002000 fe:00 10978422                   /usr/bin/dbus daemon "
    "(deleted)\n"
    "55e52f1f3000-55e52f214000 rw-p 00000000 00:00 0                          [heap]\n"
    "7f22bb044000-7f22bb19a000 ---p 00000000 00:00 0 \n"
    "7f22bb39a000-7f22bb414000 rw-s 7fff0000 00:05 18446744073709551615       /dev/zero (deleted)\n"
    "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\n";

TEST_CASE("maps") {
  auto maps = parse_maps(kMaps);
  REQUIRE(maps.size() == 6);
  CHECK(maps[0].start == 0x55e519b57000);
  CHECK(maps[0].end == 0x55e519b59000);
  CHECK(maps[0].size() == 0x2000);
  CHECK(maps[0].protection == PROT_READ);
  CHECK_FALSE(maps[0].shared);
  CHECK(maps[0].device_major == 0xfe);
  CHECK(maps[0].inode == 10978422);
  CHECK(maps[0].name == "/usr/bin/dbus-daemon");
  CHECK(maps[1].protection == (PROT_READ | PROT_EXEC));
  CHECK(maps[1].offset == 0x2000);
  CHECK(maps[1].name == "/usr/bin/dbus daemon (deleted)");
  CHECK(maps[2].name == "[heap]");
  CHECK(maps[3].protection == PROT_NONE);
  CHECK(maps[3].name == "");
  CHECK(maps[4].shared);
  CHECK(maps[4].offset == 0x7fff0000);
  CHECK(maps[4].inode == ~uint64_t{0});
  CHECK(maps[5].start == 0xffffffffff600000);
  CHECK(parse_maps("").empty());
}

TEST_CASE("smaps: attributes belong to the mapping above them") {
  std::string smaps =
      "55e52f1f3000-55e52f214000 rw-p 00000000 00:00 0                          [heap]\n"
      "Size:                132 kB\nKernelPageSize:        4 kB\nTHPeligible:           0\n"
      "ProtectionKey:         0\nVmFlags: rd wr mr mw me ac sd \n"
      "7ffc1796f000-7ffc17990000 rw-p 00000000 00:00 0                          [stack]\n"
      "Size:                132 kB\nVmFlags: rd wr mr mw me gd ac lo dd hg nh zz  \n"
      "a0000000-a0001000 rw-s 00000000 00:01 7 /x\nSize: 4 kB\n";
  auto maps = parse_smaps(smaps);
  REQUIRE(maps.size() == 3);
  CHECK(maps[0].vm_flags == kVmAccountable);
  CHECK(maps[1].vm_flags ==
        (kVmGrowsDown | kVmAccountable | kVmLocked | kVmDontDump | kVmHugePage | kVmNoHugePage));
  CHECK(maps[2].vm_flags == 0);
  CHECK(maps[2].shared);
}

TEST_CASE("damaged maps are errors that show the line") {
  for (const char* line :
       {"nonsense\n", "10-20\n", "20-10 r--p 0 0:0 0\n", "10-10 r--p 0 0:0 0\n", "10-20 r-p 0 0:0 0\n",
        "10-20 r--p zz 0:0 0\n", "10-20 r--p 0 00 0\n", "10-20 r--p 0 0:0 -1\n", "10-20 r--p 0 0:0\n",
        "11112222333344445-11112222333344446 r--p 0 0:0 0\n", "0x10-0x20 r--p 0 0:0 0\n", "\n"}) {
    std::string text = kMaps + line;
    CAPTURE(line);
    CHECK_THROWS_AS(parse_maps(text), FormatError);
  }
  CHECK_THROWS_WITH_AS(parse_maps("10-20 r--p 0 0:0 what\n"), doctest::Contains("what"), FormatError);
  // Every front part of a good text is a good text or an error, never anything worse.
  for (size_t size = 0; size < kMaps.size(); ++size) {
    try {
      (void)parse_maps(kMaps.substr(0, size));
    } catch (const FormatError&) {
    }
  }
}

const std::string kStatTail =
    " S 800 811 812 34816 813 4194304 120 0 0 0 1 2 3 4 20 -5 1 0 98765 5455872 200 18446744073709551615 "
    "4194304 "
    "4210688 140725 0 0 0 0 4096 0 0 0 0 17 1 0 0 0 0 0 4227072 4228000 5000000 140726 140727 140728 140729 "
    "256\n";

TEST_CASE("stat, whatever the command is called") {
  for (const char* name :
       {"cat", "odd (name) 1", ")", "((", ") R 1 (x", "", "a b\tc", "new\nline", "(sd-pam)"}) {
    auto stat = parse_task_stat("42 (" + std::string(name) + ")" + kStatTail);
    CAPTURE(name);
    CHECK(stat.comm == name);
    CHECK(stat.pid == 42);
    CHECK(stat.state == 'S');
    CHECK(stat.ppid == 800);
    CHECK(stat.pgrp == 811);
    CHECK(stat.session == 812);
    CHECK(stat.tty_device == 34816);
    CHECK(stat.tty_pgrp == 813);
    CHECK(stat.nice == -5);
    CHECK(stat.start_time == 98765);
    CHECK(stat.start_code == 4194304);
    CHECK(stat.end_code == 4210688);
    CHECK(stat.start_stack == 140725);
    CHECK(stat.start_data == 4227072);
    CHECK(stat.end_data == 4228000);
    CHECK(stat.start_brk == 5000000);
    CHECK(stat.arg_start == 140726);
    CHECK(stat.arg_end == 140727);
    CHECK(stat.env_start == 140728);
    CHECK(stat.env_end == 140729);
    CHECK(stat.exit_code == 256);
  }
}

TEST_CASE("damaged stat texts are errors") {
  std::string good = "42 (x)" + kStatTail;
  for (const char* text : {"", "42", "42 (x", "42 x)", ")(", "x (x) S 1 2 3", "42 (x) S", "42 (x)"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_task_stat(text), FormatError);
  }
  for (size_t size = 0; size + 5 < good.size(); ++size) {
    CHECK_THROWS_AS(parse_task_stat(good.substr(0, size)), FormatError);
  }
  std::string negative = good;
  negative.replace(negative.find("4194304 4210688"), 7, "-194304");
  CHECK_THROWS_AS(parse_task_stat(negative), FormatError);
}

TEST_CASE("status") {
  auto status = parse_task_status(
      "Name:\todd (name) 1\nUmask:\t0137\nState:\tS (sleeping)\nTgid:\t42\nNgid:\t0\nPid:\t43\nPPid:\t7\n"
      "TracerPid:\t9\nUid:\t2001\t2002\t2003\t2002\nGid:\t1001\t1002\t1003\t1002\nFDSize:\t64\n"
      "Groups:\t7 4242 \nNStgid:\t42\t2\nNSpid:\t43\t3\nVmSwap:\t      12 kB\nRssAnon:\t    1234 kB\n"
      "SigPnd:\t0000000000000001\nShdPnd:\t0000000000000002\nSigBlk:\tfffffffffffbfeff\n"
      "SigIgn:\t0000000000001000\nSigCgt:\t0000000180000000\nCapInh:\t0000000000002000\n"
      "CapPrm:\t0000000000002020\nCapEff:\t0000000000000020\nCapBnd:\t000001ffffbfffff\nCapAmb:"
      "\t0000000000002000\n"
      "NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t3\nTHP_enabled:\t0\n");
  CHECK(status.umask == 0137);
  CHECK(status.tgid == 42);
  CHECK(status.pid == 43);
  CHECK(status.ppid == 7);
  CHECK(status.tracer_pid == 9);
  CHECK(status.uids == std::array<uint32_t, 4>{2001, 2002, 2003, 2002});
  CHECK(status.gids == std::array<uint32_t, 4>{1001, 1002, 1003, 1002});
  CHECK(status.groups == std::vector<uint32_t>{7, 4242});
  CHECK(status.pending == 1);
  CHECK(status.shared_pending == 2);
  CHECK(status.blocked == 0xfffffffffffbfeff);
  CHECK(status.ignored == 0x1000);
  CHECK(status.caught == 0x180000000);
  CHECK(status.cap_inheritable == 0x2000);
  CHECK(status.cap_permitted == 0x2020);
  CHECK(status.cap_effective == 0x20);
  CHECK(status.cap_bounding == 0x1ffffbfffff);
  CHECK(status.cap_ambient == 0x2000);
  CHECK(status.no_new_privs);
  CHECK(status.seccomp == 2);
  CHECK(status.seccomp_filters == 3);
  CHECK_FALSE(status.thp_enabled);
  CHECK(status.anonymous_kib == 1234);
  CHECK(status.swap_kib == 12);
  CHECK(status.namespace_pids == std::vector<pid_t>{43, 3});
}

TEST_CASE("a command name cannot pretend to be a field of status, and damaged fields are errors") {
  // The kernel escapes line ends in names, so a name stays on its line.
  CHECK(parse_task_status("Name:\tSeccomp:\t2\nPid:\t5\n").seccomp == 0);
  CHECK(parse_task_status("Name:\tx\\nUid:\t0\nPid:\t5\n").pid == 5);
  for (const char* text : {"Pid:\tx\n", "Pid:\t\n", "Uid:\t1\t2\n", "Groups:\t1 x\n", "SigBlk:\t0123g\n",
                           "SigBlk:\t11111111111111111\n", "Umask:\t9\n", "Pid:\t99999999999\n"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_task_status(text), FormatError);
  }
}

TEST_CASE("this process") {
  auto stat = read_task_stat(::getpid(), ::getpid());
  CHECK(stat.ppid == ::getppid());
  CHECK(stat.session == ::getsid(0));
  CHECK(read_task_status(::getpid(), ::getpid()).tgid == ::getpid());
  CHECK_FALSE(read_task_stat_if_alive(4194303, 4194303));
  CHECK_THROWS_AS(read_task_status(4194303, 4194303), SystemError);
}

}  // namespace
}  // namespace godwit::kernel
