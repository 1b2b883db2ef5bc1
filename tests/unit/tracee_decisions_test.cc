// What is decided about tracees without a tracee: stops, signals, restarts, places, pieces of the scratch.
#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "engine/base/error.h"
#include "engine/tracee/batch.h"
#include "engine/tracee/batch_stop.h"
#include "engine/tracee/scratch_place.h"
#include "engine/tracee/scratch_pool.h"
#include "engine/tracee/stub.h"
#include "engine/tracee/syscall_restart.h"

using namespace godwit;
using namespace godwit::tracee;

namespace {

WaitStatus stopped(int signal, int event = 0) {
  return WaitStatus(event << 16 | signal << 8 | 0x7f);
}

siginfo_t sent(int code, pid_t pid) {
  siginfo_t info{};
  info.si_code = code;
  info.si_pid = pid;
  return info;
}

constexpr BatchEnd kEnd{.signal = SIGURG, .own_tgid = 42};

}  // namespace

TEST_CASE("only the batch's own signal ends it") {
  CHECK(judge_batch_stop(stopped(SIGURG), sent(SI_TKILL, 42), kEnd) == BatchStop::kEnd);
  CHECK(judge_batch_stop(stopped(SIGURG), sent(SI_TKILL, 43), kEnd) == BatchStop::kHoldSignal);
  CHECK(judge_batch_stop(stopped(SIGURG), sent(SI_USER, 42), kEnd) == BatchStop::kHoldSignal);
}

TEST_CASE("other stops of a batch") {
  siginfo_t none{};
  CHECK(judge_batch_stop(WaitStatus(SIGKILL), none, kEnd) == BatchStop::kDead);
  CHECK(judge_batch_stop(WaitStatus::gone(), none, kEnd) == BatchStop::kDead);
  CHECK(judge_batch_stop(stopped(SIGTRAP, PTRACE_EVENT_CLONE), none, kEnd) == BatchStop::kNewTask);
  CHECK(judge_batch_stop(stopped(SIGTRAP, PTRACE_EVENT_FORK), none, kEnd) == BatchStop::kNewTask);
  CHECK(judge_batch_stop(stopped(SIGSTOP, PTRACE_EVENT_STOP), none, kEnd) == BatchStop::kGoOn);
  CHECK(judge_batch_stop(stopped(SIGSTOP), sent(SI_USER, 1), kEnd) == BatchStop::kStopSignal);
  CHECK(judge_batch_stop(stopped(SIGTERM), sent(SI_USER, 1), kEnd) == BatchStop::kRequeue);
  // A SIGSEGV that somebody sent is not one that the stub made.
  CHECK(judge_batch_stop(stopped(SIGSEGV), sent(SI_USER, 1), kEnd) == BatchStop::kRequeue);
  CHECK(judge_batch_stop(stopped(SIGSEGV), sent(SEGV_MAPERR, 0), kEnd) == BatchStop::kFault);
}

TEST_CASE("signals that may end a batch") {
  kernel::TaskStatus status;
  CHECK(end_signals(status, false) == std::vector<int>{SIGURG, SIGWINCH, SIGCHLD, SIGCONT});
  CHECK(end_signals(status, true) == std::vector<int>{SIGURG, SIGWINCH, SIGCHLD});
  status.caught = signal_bit(SIGURG);
  status.shared_pending = signal_bit(SIGWINCH);
  CHECK(end_signals(status, true) == std::vector<int>{SIGCHLD});
  // One that is blocked is the last choice, one that the program ignores is as good as the usual ones.
  status.blocked = signal_bit(SIGCHLD);
  status.ignored = signal_bit(SIGPIPE) | signal_bit(SIGTRAP);
  CHECK(end_signals(status, true) == std::vector<int>{SIGPIPE, SIGCHLD});
  status.pending = signal_bit(SIGPIPE) | signal_bit(SIGCHLD);
  CHECK(end_signals(status, true).empty());
}

TEST_CASE("interrupted system calls are called again") {
  user_regs_struct stopped_in_call{};
  stopped_in_call.orig_rax = SYS_read;
  stopped_in_call.rip = 1000;
  for (int64_t code : {-512, -513, -514}) {
    stopped_in_call.rax = static_cast<uint64_t>(code);
    auto resumed = resumed_registers(stopped_in_call, RestartBlock::kLost);
    CHECK(resumed.rax == SYS_read);
    CHECK(resumed.rip == 998);
    CHECK(resumed.orig_rax == ~uint64_t{0});
  }
  stopped_in_call.rax = static_cast<uint64_t>(-516);
  CHECK(resumed_registers(stopped_in_call, RestartBlock::kKept).rax == SYS_restart_syscall);
  CHECK(resumed_registers(stopped_in_call, RestartBlock::kKept).rip == 998);
  CHECK(static_cast<int64_t>(resumed_registers(stopped_in_call, RestartBlock::kLost).rax) == -EINTR);
  CHECK(resumed_registers(stopped_in_call, RestartBlock::kLost).rip == 1000);
  // The same value outside a system call is the program's.
  stopped_in_call.orig_rax = ~uint64_t{0};
  CHECK(resumed_registers(stopped_in_call, RestartBlock::kKept).rip == 1000);
}

TEST_CASE("a stub's state gives the registers back that were put in") {
  user_regs_struct own{};
  own.rip = 1;
  own.rax = 2;
  own.r13 = 3;
  own.rsp = 4;
  own.eflags = 0x202 | 1 << 11 | 1 << 6 | 1;
  own.orig_rax = ~uint64_t{0};
  StubState state{};
  set_own_registers(state, own);
  user_regs_struct in_stub{};
  in_stub.eflags = 0x246;
  in_stub.rip = 0x7777;
  auto back = own_registers(state, in_stub);
  CHECK(std::memcmp(&back, &own, sizeof own) == 0);
}

TEST_CASE("scratch areas lie far from everything and can be told by their address") {
  std::vector<kernel::MapsEntry> maps(2);
  maps[0].start = 0x400000;
  maps[0].end = 0x500000;
  maps[1].start = 0x7ff000000000;
  maps[1].end = 0x7ff000100000;
  auto first = find_scratch_hole(maps, kMiB, 0), second = find_scratch_hole(maps, kMiB, 1);
  CHECK(first.value > maps[0].end + kGiB);
  CHECK(second.value + kGiB < maps[1].start);
  CHECK(first != second);
  CHECK((first.value & 0xffffffff) == (second.value & 0xffffffff));
  // No gap of the required size.
  maps[0].end = maps[1].start;
  CHECK_THROWS_AS(find_scratch_hole(maps, uint64_t{1} << 46, 0), Error);
}

TEST_CASE("the scratch pool hands out, takes back and joins") {
  ScratchPool pool;
  pool.add({RemoteAddress{0x1000}, 1024});
  auto first = pool.take(1), second = pool.take(100), third = pool.take(512);
  REQUIRE(first);
  REQUIRE(second);
  REQUIRE(third);
  CHECK(first->value == 0x1000);
  CHECK(second->value == 0x1040);
  CHECK(third->value == 0x10c0);
  CHECK_FALSE(pool.take(1024));
  pool.give_back(*second);
  pool.give_back(*first);
  pool.give_back(*third);
  pool.give_back(*third);
  CHECK(pool.take(1024) == RemoteAddress{0x1000});
  CHECK_FALSE(pool.take(1));
}

TEST_CASE("a batch refuses what cannot be") {
  Batch batch;
  auto data = batch.put_object(uint64_t{0});
  CHECK_THROWS_AS(batch.patch(data, 1, data), Error);
  auto result = batch.call(SYS_getpid, {});
  CHECK_THROWS_AS(batch.store64(result, data, 4), Error);
  CHECK_THROWS_AS(batch.call(SYS_getpid, {1, 2, 3, 4, 5, 6, 7}), Error);
}
