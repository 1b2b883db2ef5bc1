#include "engine/tracee/running_session.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/base/units.h"
#include "engine/tracee/ptrace_call.h"
#include "engine/tracee/signal_frame.h"
#include "engine/tracee/syscall_restart.h"

namespace godwit::tracee {
namespace {

constexpr uint64_t kCodeSegment64 = 0x33;
constexpr uint64_t kNoFile = static_cast<uint64_t>(-1);

bool contains(const RemoteRange& range, uint64_t address) {
  return address - range.start.value < range.size;
}

int to_errno(int64_t result) {
  return static_cast<int>(-result);
}

}  // namespace

RunningSession::RunningSession(std::span<Tracee> threads, std::chrono::milliseconds timeout)
    : BatchSession(threads.front().pid(), timeout) {
  pid_t pid = memory_.pid();
  if (threads.front().frozen().registers.cs != kCodeSegment64) {
    throw RefusedError("pid {}: a 32-bit program", pid);
  }
  maps_ = kernel::parse_maps(read_file(AT_FDCWD, fmt::format("/proc/{}/maps", pid)));
  remove_leftovers(threads);
  auto place = find_bootstrap_place(memory_, maps_);
  if (!place) {
    throw RefusedError(
        "pid {}: no executable mapping ends in {} unused bytes, so there is no place to start from", pid,
        bootstrap_size());
  }
  bootstrap_ = *place;
  try {
    begin(threads);
  } catch (...) {
    cure();
    throw;
  }
}

RunningSession::~RunningSession() {
  try {
    cure();
  } catch (const std::exception& error) {
    log::warning("{}", error.what());
  }
}

// What a tracer left here that was killed. Its threads have mostly gone home by themselves; one that we froze
// before it was through is sent home now.
void RunningSession::remove_leftovers(std::span<Tracee> threads) {
  for (const auto& entry : maps_) {
    if (is_scratch(memory_, entry)) {
      leftovers_.push_back({RemoteAddress{entry.start}, entry.end - entry.start});
    }
  }
  auto bootstraps = find_leftover_bootstraps(memory_, maps_);
  if (leftovers_.empty() && bootstraps.empty()) return;
  log::info("pid {}: removing what a dump left that was killed", memory_.pid());
  for (RemoteAddress place : bootstraps) leftovers_.push_back({place, bootstrap_size()});
  for (Tracee& tracee : threads) rescue(tracee);
  std::vector<std::byte> zeros(bootstrap_size());
  for (RemoteAddress place : bootstraps) memory_.write(place, zeros);
  leftovers_.resize(leftovers_.size() - bootstraps.size());
}

void RunningSession::rescue(Tracee& tracee) {
  user_regs_struct in_stub = tracee.registers();
  for (const RemoteRange& range : leftovers_) {
    if (!contains(range, in_stub.rip)) continue;
    bool bootstrap = range.size == bootstrap_size();
    RemoteAddress code = bootstrap ? range.start : RemoteAddress{page_down(in_stub.rip)};
    auto state = memory_.read_object<StubState>(code + stub_code().size());
    bool mask_is_ours = (state.mode & (kStubOwnsMask | kStubReturnsBySignalFrame)) != 0;
    tracee.replace_frozen(own_registers(state, in_stub),
                          mask_is_ours ? state.own_mask : tracee.frozen().signal_mask);
    return;
  }
}

void RunningSession::begin(std::span<Tracee> threads) {
  // Best a thread without a seccomp filter.
  auto unfiltered = std::find_if(threads.begin(), threads.end(), [](const Tracee& tracee) {
    return kernel::read_task_status(tracee.pid(), tracee.tid()).seccomp == 0;
  });
  Tracee& tracee = unfiltered == threads.end() ? threads.front() : *unfiltered;
  Worker first;
  first.slot.pid = tracee.pid();
  first.slot.tid = tracee.tid();
  runner_.prepare_running(first.slot, tracee);
  if (first.slot.mask_changed) {
    throw RefusedError("pid {}: under a seccomp filter with all signals blocked that could end a batch",
                       memory_.pid());
  }
  Worker& home = workers_[tracee.tid()] = std::move(first);
  map_first_area(home);
  prepare_signal_frame(home, tracee);
  for (const RemoteRange& leftover : leftovers_) {
    runner_.call(home.slot, SYS_munmap, {leftover.start.value, leftover.size});
  }
}

void RunningSession::map_first_area(Worker& home) {
  constexpr uint64_t kSize = kScratchCodeSize + kScratchDataSize;
  RemoteAddress hole = find_scratch_hole(maps_, kSize, holes_++);
  int64_t mapped = runner_.bootstrap_call(home.slot, bootstrap_, SYS_mmap,
                                          {hole.value, kSize, PROT_READ | PROT_EXEC,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, kNoFile, 0});
  if (mapped != static_cast<int64_t>(hole.value)) {
    throw SystemError(mapped < 0 ? to_errno(mapped) : EEXIST, "pid {}: mapping {} bytes for the stub",
                      memory_.pid(), kSize);
  }
  areas_.push_back({hole, kSize});
  RemoteAddress data = hole + kScratchCodeSize;
  memory_.write_object(hole, kScratchMagic);
  memory_.write_object(data, kScratchMagic);
  add_code_pages(hole);
  growth_page_ = free_code_.back();
  free_code_.pop_back();
  home.slot.code = free_code_.back();
  free_code_.pop_back();
  runner_.install_stub(home.slot);
  int64_t result =
      runner_.call(home.slot, SYS_mprotect, {data.value, kScratchDataSize, PROT_READ | PROT_WRITE});
  if (result < 0) throw SystemError(to_errno(result), "pid {}: mprotect of the scratch", memory_.pid());
  // The thread has left the bootstrap image with its last call.
  memory_.write(bootstrap_, std::vector<std::byte>(bootstrap_size()));
  pool_.add({data + kScratchHeadSize, kScratchDataSize - kScratchHeadSize});
}

void RunningSession::add_code_pages(RemoteAddress area) {
  for (uint64_t i = kCodeSlots; i >= 1; --i) free_code_.push_back(area + i * kPageSize);
}

// One more area, executable and with its magic.
RemoteAddress RunningSession::map_area(Slot& slot, uint64_t size) {
  RemoteAddress hole = find_scratch_hole(maps_, size, holes_++);
  int64_t mapped = runner_.call(slot, SYS_mmap,
                                {hole.value, size, PROT_READ | PROT_EXEC,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, kNoFile, 0});
  if (mapped != static_cast<int64_t>(hole.value)) {
    throw SystemError(mapped < 0 ? to_errno(mapped) : EEXIST, "pid {}: mapping {} bytes for a batch",
                      memory_.pid(), size);
  }
  areas_.push_back({hole, size});
  memory_.write_object(hole, kScratchMagic);
  return hole;
}

void RunningSession::prepare(Worker& worker, Tracee& tracee) {
  runner_.prepare_running(worker.slot, tracee);
  prepare_signal_frame(worker, tracee);
}

void RunningSession::prepare_signal_frame(Worker& worker, Tracee& tracee) {
  Slot& slot = worker.slot;
  if (!slot.filtered) return;
  auto xstate = tracee.xstate();
  auto resumed = resumed_registers(slot.own, RestartBlock::kKept);
  uint64_t size = make_signal_frame(RemoteAddress{}, resumed, xstate, slot.own_mask).size();
  auto place = pool_.take(size);
  if (!place) {
    auto idle = std::find_if(workers_.begin(), workers_.end(),
                             [](const auto& entry) { return !entry.second.slot.in_batch; });
    if (idle != workers_.end()) grow_data(idle->second, size);
    place = pool_.take(size);
  }
  if (!place) throw Error("pid {} (thread {}): no room for a signal frame", slot.pid, slot.tid);
  memory_.write(*place, make_signal_frame(*place, resumed, xstate, slot.own_mask));
  slot.frame = *place;
  slot.state.signal_frame = place->value;
  if (slot.mask_changed) slot.state.mode = kStubReturnsBySignalFrame;
}

RemoteAddress RunningSession::take_code_page(Worker& worker) {
  if (free_code_.empty()) {
    worker.slot.code = growth_page_;
    runner_.install_stub(worker.slot);
    add_code_pages(map_area(worker.slot, kScratchCodeSize));
    // Out of the growth page, before the next thread's state is written there.
    runner_.send_home(worker.slot);
  }
  RemoteAddress page = free_code_.back();
  free_code_.pop_back();
  return page;
}

void RunningSession::grow_data(Worker& worker, uint64_t size) {
  uint64_t bytes = page_up(std::max(size + kScratchHeadSize, kScratchDataSize));
  RemoteAddress area = map_area(worker.slot, bytes);
  int64_t result = runner_.call(worker.slot, SYS_mprotect, {area.value, bytes, PROT_READ | PROT_WRITE});
  if (result < 0) throw SystemError(to_errno(result), "pid {}: mprotect of the scratch", memory_.pid());
  pool_.add({area + kScratchHeadSize, bytes - kScratchHeadSize});
}

// Whether every thread is out of its batch; those that have died are forgotten.
bool RunningSession::end_batches() {
  bool all = true;
  for (auto it = workers_.begin(); it != workers_.end();) {
    Worker& worker = it->second;
    try {
      runner_.await_end(worker.slot);
      worker.image.reset();
      return_held_signals(worker);
    } catch (const std::exception& error) {
      log::warning("{}", error.what());
      if (worker.slot.in_batch) all = false;
    }
    it = worker.slot.tid == 0 ? workers_.erase(it) : std::next(it);
  }
  return all;
}

void RunningSession::cure() {
  if (workers_.empty()) return;
  bool may_unmap = end_batches();
  for (auto& [tid, worker] : workers_) {
    // One that is still in its batch goes home by itself when that ends and we are gone.
    if (!worker.slot.in_batch) runner_.send_home(worker.slot);
  }
  if (!workers_.empty() && may_unmap) unmap_areas(workers_.begin()->second);
  workers_.clear();
  areas_.clear();
}

void RunningSession::unmap_areas(Worker& home) {
  Slot& slot = home.slot;
  // Its signals are blocked only by the bootstrap image from here on, and that only if no filter forbids it.
  slot.mask_changed = false;
  slot.frame.reset();
  for (const RemoteRange& area : areas_) {
    runner_.bootstrap_call(slot, bootstrap_, SYS_munmap, {area.start.value, area.size});
  }
  runner_.send_home(slot);
  memory_.write(bootstrap_, std::vector<std::byte>(bootstrap_size()));
}

}  // namespace godwit::tracee
