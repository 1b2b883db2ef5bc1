#pragma once

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/base/units.h"
#include "engine/kernel/proc_maps.h"
#include "engine/memory/dirty_tracker.h"
#include "engine/memory/vma.h"
#include "engine/tracee/freeze.h"
#include "engine/tracee/remote_caller.h"

// A process that changes its memory on command, and one round of tracking over it.
namespace godwit::memory::test {

inline constexpr uint64_t kArena = 0x100000000000;  // the mappings of a guest that tests look at
inline constexpr uint64_t kArenaEnd = 0x200000000000;

inline uint64_t page(uint64_t number) {
  return kArena + number * kPageSize;
}

// A forked child that runs system calls and writes bytes as it is told.
class Guest {
 public:
  Guest() {
    Pipe orders = Pipe::create(), answers = Pipe::create();
    pid_ = check(::fork(), "fork");
    if (pid_ == 0) {
      orders.write_end.reset();
      answers.read_end.reset();
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      obey(orders.read_end.get(), answers.write_end.get());
    }
    orders_ = std::move(orders.write_end);
    answers_ = std::move(answers.read_end);
  }
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;
  ~Guest() { end(); }

  pid_t pid() const { return pid_; }
  void end() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
  }

  // The result of a system call in the guest, -1 for a failure.
  int64_t call(long number, int64_t a = 0, int64_t b = 0, int64_t c = 0, int64_t d = 0, int64_t e = 0,
               int64_t f = 0) {
    send({number, {a, b, c, d, e, f}});
    return answer();
  }
  // A system call that does not come back (execve).
  void send_call(long number, int64_t a, int64_t b, int64_t c) { send({number, {a, b, c}}); }
  void write(uint64_t address, uint8_t value) {
    send({kWrite, {static_cast<int64_t>(address), value}});
    answer();
  }
  uint8_t read(uint64_t address) {
    send({kRead, {static_cast<int64_t>(address)}});
    return static_cast<uint8_t>(answer());
  }
  // Small pages, so that one write changes one of them.
  void map(uint64_t address, uint64_t pages, int fd = -1) {
    int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0);
    auto at = static_cast<int64_t>(address), size = static_cast<int64_t>(pages * kPageSize);
    if (call(SYS_mmap, at, size, PROT_READ | PROT_WRITE, flags, fd) != at) throw Error("guest: mmap");
    call(SYS_madvise, at, size, MADV_NOHUGEPAGE);
  }
  // A child process with the same memory, which only waits.
  pid_t clone_with_shared_memory(uint64_t stack_end) {
    send({kShare, {static_cast<int64_t>(stack_end)}});
    return static_cast<pid_t>(answer());
  }
  void fill(uint64_t address, uint64_t pages, uint8_t value) {
    for (uint64_t i = 0; i < pages; ++i) write(address + i * kPageSize, value);
  }

 private:
  static constexpr long kWrite = -1, kRead = -2, kShare = -3;
  struct Order {
    long number;
    int64_t arguments[6];
  };

  static int wait_for_end(void*) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (true) ::pause();
  }
  [[noreturn]] static void obey(int orders, int answers) {
    Order order;
    while (::read(orders, &order, sizeof order) == sizeof order) {
      const auto& a = order.arguments;
      int64_t result = 0;
      auto* byte = reinterpret_cast<volatile uint8_t*>(a[0]);
      if (order.number == kWrite) {
        *byte = static_cast<uint8_t>(a[1]);
      } else if (order.number == kRead) {
        result = *byte;
      } else if (order.number == kShare) {
        result = ::clone(wait_for_end, reinterpret_cast<void*>(a[0]), CLONE_VM | SIGCHLD, nullptr);
      } else {
        result = ::syscall(order.number, a[0], a[1], a[2], a[3], a[4], a[5]);
      }
      if (order.number == SYS_clone && result == 0) wait_for_end(nullptr);
      if (::write(answers, &result, sizeof result) != sizeof result) break;
    }
    ::_exit(0);
  }
  void send(const Order& order) { write_all(orders_.get(), bytes_of(order), "guest"); }
  int64_t answer() {
    int64_t result;
    read_exactly(answers_.get(), writable_bytes_of(result), "guest");
    return result;
  }

  pid_t pid_ = 0;
  Fd orders_, answers_;
};

using Pages = std::set<uint64_t>;

// What one round found in the arena of one process, by page address.
struct Found {
  Pages owned, changed;
  std::map<uint64_t, uint8_t> first_bytes;  // of the changed ones, read in the freeze
};

inline void add_pages(const kernel::PageRegion& region, const tracee::RemoteMemory& memory, Found& found) {
  for (uint64_t at = region.start; at < region.end; at += kPageSize) {
    found.owned.insert(at);
    if ((region.categories & kernel::kPageWritten) == 0) continue;
    found.changed.insert(at);
    memory.read(tracee::RemoteAddress{at}, std::as_writable_bytes(std::span(&found.first_bytes[at], 1)));
  }
}

inline pb::vma_entry entry_of(const kernel::MapsEntry& map) {
  pb::vma_entry vma;
  vma.set_start(map.start);
  vma.set_end(map.end);
  vma.set_status(kVmaRegular | (map.inode != 0 ? kVmaFilePrivate : kVmaAnonPrivate));
  return vma;
}

// One round over the tree; `wanted` chooses the mappings.
inline std::map<pid_t, Found> track_tree(
    DirtyTracker& tracker, pid_t root,
    const std::function<bool(const kernel::MapsEntry&)>& wanted = [](const kernel::MapsEntry& map) {
      return map.start >= kArena && map.end <= kArenaEnd;
    }) {
  std::map<pid_t, Found> result;
  tracee::FrozenTree tree = tracee::freeze_tree(root, {});
  for (auto& process : tree.processes()) {
    auto caller = tracee::RemoteCaller::for_running(process.threads);
    tracee::RemoteMemory memory(process.pid);
    auto maps = kernel::parse_maps(read_file(AT_FDCWD, fmt::format("/proc/{}/maps", process.pid)));
    Found& found = result[process.pid];
    tracker.begin_process(process.pid, caller, process.leader());
    for (const auto& map : maps) {
      if (!wanted(map)) continue;
      std::vector<kernel::PageRegion> regions;
      tracker.owned_pages(entry_of(map), regions);
      for (const auto& region : regions) add_pages(region, memory, found);
    }
    tracker.end_process();
    caller.cure();
  }
  return result;
}

inline Found track(DirtyTracker& tracker, const Guest& guest) {
  return track_tree(tracker, guest.pid()).at(guest.pid());
}

}  // namespace godwit::memory::test
