// The seed, and batches that rebuild a task in it.
#include "engine/tracee/seed.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "engine/base/fd.h"
#include "engine/kernel/proc_maps.h"
#include "engine/kernel/proc_task.h"
#include "engine/tracee/remote_caller.h"
#include "tests/support/child.h"
#include "tests/support/skip.h"

using namespace godwit;
using namespace godwit::tracee;

namespace {

constexpr RemoteAddress kHole{0x5500'0000'0000};
constexpr uint64_t kScratchSize = 1 << 20;

// A number that is free now, and not likely to be taken within this test.
pid_t free_pid() {
  for (pid_t pid = 300'000 % 32'000 + 20'000;; ++pid) {
    if (!kernel::read_task_stat_if_alive(pid, pid)) return pid;
  }
}

void end(Tracee& tracee) {
  tracee.kill();
  ::waitpid(tracee.tid(), nullptr, __WALL);
  tracee.forget();
}

user_regs_struct at(Tracee& tracee, uint64_t instruction) {
  auto registers = tracee.registers();
  registers.rip = instruction;
  registers.orig_rax = static_cast<uint64_t>(-1);
  return registers;
}

}  // namespace

TEST_CASE("a seed has the pid that was asked for, a session of its own, and nothing open") {
  pid_t pid = free_pid();
  auto seed = spawn_seed({.set_tid = {pid}});
  CHECK(seed.pid() == pid);
  auto stat = kernel::read_task_stat(pid, pid);
  CHECK(stat.session == pid);
  CHECK(stat.ppid == ::getpid());
  CHECK(stat.comm.find("godwit-se") != std::string::npos);  // or the memfd's name, since Linux 6.14
  auto status = kernel::read_task_status(pid, pid);
  CHECK(status.tracer_pid == ::getpid());
  CHECK((status.blocked | status.ignored | status.caught) == 0);
  CHECK_FALSE(read_link_if_exists(AT_FDCWD, fmt::format("/proc/{}/fd/0", pid)));
  CHECK(read_file(AT_FDCWD, fmt::format("/proc/{}/maps", pid)).find("00010000-00011000 r-xp") == 0);

  std::string text;
  try {
    spawn_seed({.set_tid = {pid}});
  } catch (const Error& error) {
    text = error.what();
  }
  CHECK(text == fmt::format("pid {} is already taken by: {}", pid, stat.comm));
  end(seed);
}

TEST_CASE("a seed dies with its tracer") {
  test::Shared<std::atomic<pid_t>> pid;
  {
    test::Child restorer([&] {
      auto seed = spawn_seed({});
      *pid = seed.pid();
      for (;;) ::pause();
    });
    REQUIRE(test::eventually([&] { return *pid != 0; }));
    CHECK(kernel::read_task_stat_if_alive(*pid, *pid));
  }
  CHECK(test::eventually([&] { return !kernel::read_task_stat_if_alive(*pid, *pid); }));
}

TEST_CASE("a seed is emptied, filled and released") {
  auto seed = spawn_seed({});
  auto maps = kernel::parse_maps(read_file(AT_FDCWD, fmt::format("/proc/{}/maps", seed.pid())));
  auto caller = RemoteCaller::for_restore(seed, kHole, kScratchSize, 2);
  Batch batch;
  for (const auto& entry : maps) {
    if (entry.name != "[vsyscall]") batch.call(SYS_munmap, {entry.start, entry.size()});
  }
  constexpr uint64_t kText = 0x40'0000;
  batch.call(SYS_mmap, {kText, kPageSize, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0});
  // mov $60, %eax (exit); mov $42, %edi; syscall
  const unsigned char program[] = {0xb8, 60, 0, 0, 0, 0xbf, 42, 0, 0, 0, 0x0f, 0x05};
  auto code = batch.put(std::as_bytes(std::span(program)));
  auto file = batch.call(SYS_memfd_create, {batch.put_string("code"), 0});
  batch.call(SYS_write, {file, code, sizeof program});
  batch.call(SYS_pread64, {file, kText, sizeof program, 0});
  batch.call(SYS_mprotect, {kText, kPageSize, PROT_READ | PROT_EXEC});
  batch.call(SYS_close, {file});
  caller.run(seed, batch).check_all("filling");
  caller.unmap_scratch_and_leave(seed, at(seed, kText), 0x8000);
  auto left = kernel::parse_maps(read_file(AT_FDCWD, fmt::format("/proc/{}/maps", seed.pid())));
  std::erase_if(left, [](const auto& entry) { return entry.name == "[vsyscall]"; });
  REQUIRE(left.size() == 1);
  CHECK(left[0].start == kText);
  CHECK(seed.signal_mask() == 0x8000);
  seed.detach();
  int status = 0;
  CHECK(::waitpid(seed.pid(), &status, 0) == seed.pid());
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 42);
}

TEST_CASE("threads and children are made under their numbers, and run batches of their own") {
  auto seed = spawn_seed({});
  auto caller = RemoteCaller::for_restore(seed, kHole, kScratchSize, 2);
  pid_t base = free_pid();
  pid_t thread_tid = base + 3, child_pid = base + 5;
  Batch batch;
  clone_args thread_args{};
  thread_args.flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
  thread_args.set_tid_size = 1;
  auto thread_data = batch.put_object(thread_args);
  batch.patch(thread_data, offsetof(clone_args, set_tid), batch.put_object(thread_tid));
  auto thread_result = batch.call(SYS_clone3, {thread_data, sizeof thread_args});
  clone_args child_args{};
  child_args.exit_signal = SIGCHLD;
  child_args.set_tid_size = 1;
  auto child_data = batch.put_object(child_args);
  batch.patch(child_data, offsetof(clone_args, set_tid), batch.put_object(child_pid));
  auto child_result = batch.call(SYS_clone3, {child_data, sizeof child_args});
  auto results = caller.run(seed, batch);
  CHECK(results.check(thread_result, "clone3 of a thread") == thread_tid);
  CHECK(results.check(child_result, "clone3 of a child") == child_pid);
  CHECK(results.new_tasks() == std::vector<pid_t>{thread_tid, child_pid});

  auto thread = RemoteCaller::adopt(seed.pid(), thread_tid);
  auto child = RemoteCaller::adopt(child_pid, child_pid);
  auto child_caller = caller.for_forked_child(child);
  Batch who;
  auto pid = who.call(SYS_getpid, {});
  auto tid = who.call(SYS_gettid, {});
  auto parent = who.call(SYS_getppid, {});
  caller.start(thread, who);
  child_caller.start(child, who);
  caller.start(seed, who);
  auto of_child = child_caller.finish(child);
  auto of_seed = caller.finish(seed);
  auto of_thread = caller.finish(thread);
  CHECK(of_seed.value(tid) == seed.pid());
  CHECK(of_thread.value(pid) == seed.pid());
  CHECK(of_thread.value(tid) == thread_tid);
  CHECK(of_child.value(pid) == child_pid);
  CHECK(of_child.value(parent) == seed.pid());

  // The thread leaves before the last one takes the scratch away; the child has its own copy.
  caller.leave(thread, at(thread, 0x10000), 0);
  caller.unmap_scratch_and_leave(seed, at(seed, 0x10000), 0);
  CHECK(child_caller.run(child, who).value(pid) == child_pid);
  child_caller.unmap_scratch_and_leave(child, at(child, 0x10000), 0);
  end(child);
  // A leader's end is told only after its threads'.
  end(thread);
  end(seed);
}

TEST_CASE("a signal that is queued for the end of batches is there when the task leaves") {
  auto seed = spawn_seed({});
  auto caller = RemoteCaller::for_restore(seed, kHole, kScratchSize, 1);
  Batch batch;
  siginfo_t info{};
  info.si_signo = SIGURG;
  info.si_code = SI_QUEUE;
  info.si_value.sival_int = 99;
  batch.call(SYS_rt_sigqueueinfo, {seed.pid(), SIGURG, batch.put_object(info)});
  caller.run(seed, batch).check_all("queueing");
  caller.run(seed, Batch());
  caller.unmap_scratch_and_leave(seed, at(seed, 0x10000), uint64_t{1} << (SIGURG - 1));
  auto pending = seed.pending_shared_signals();
  REQUIRE(pending.size() == 1);
  CHECK(pending[0].si_signo == SIGURG);
  CHECK(pending[0].si_value.sival_int == 99);
  end(seed);
}

TEST_CASE("seeds in new pid namespaces") {
  auto seed = spawn_seed({.set_tid = {1}, .clone_flags = CLONE_NEWPID});
  CHECK(seed.pid() != 1);
  auto caller = RemoteCaller::for_restore(seed, kHole, kScratchSize, 1);
  Batch batch;
  auto pid = batch.call(SYS_getpid, {});
  CHECK(caller.run(seed, batch).value(pid) == 1);
  end(seed);
}
