#include "engine/memory/soft_dirty_tracker.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/base/log.h"
#include "engine/memory/in_flight_io.h"

namespace godwit::memory {
namespace {

// Clears the soft-dirty bits and arms the process: proc(5), /proc/PID/clear_refs.
constexpr char kClearSoftDirty[] = {'4'};

// The address spaces that were cleared in this round, sorted as kcmp(2) orders them. All processes in it are
// frozen.
class ClearedSpaces {
 public:
  // Adds the address space of this process; false when another process with the same one was added.
  bool add(pid_t pid) {
    auto before = [](pid_t one, pid_t other) { return compare(one, other) == 1; };
    auto place = std::lower_bound(pids_.begin(), pids_.end(), pid, before);
    if (place != pids_.end() && compare(*place, pid) == 0) return false;
    pids_.insert(place, pid);
    return true;
  }
  void clear() { pids_.clear(); }

 private:
  // 0 equal, 1 less, 2 greater.
  static long compare(pid_t one, pid_t other) {
    return check(::syscall(SYS_kcmp, one, other, KCMP_VM, 0, 0), "kcmp({}, {}, KCMP_VM)", one, other);
  }
  std::vector<pid_t> pids_;
};

class SoftDirtyTracker final : public DirtyTracker {
 public:
  SoftDirtyTracker(std::optional<ArmingRecord> earlier, ArmingRegistry registry)
      : registry_(std::move(registry)), token_(new_token()) {
    if (!earlier) return;
    for (const auto& process : earlier->processes) armed_[process.pid] = {process, earlier->token};
  }

  bool tracks() const override { return true; }

  void begin_process(pid_t pid, tracee::RemoteCaller&, tracee::Tracee&) override {
    if (root_ == 0 || pid == root_) {  // the first process of every round
      root_ = pid;
      cleared_.clear();
    }
    pages_.emplace(pid);
    process_ = identity_of(pid);
    is_first_of_memory_ = cleared_.add(pid);
    all_changed_ = !is_armed();
    if (std::string reason = in_flight_io(pid); !reason.empty()) {
      log::warning("pid {}: {}: its memory cannot be tracked, every page counts as changed", pid, reason);
      all_changed_ = true;
    }
  }

  void owned_pages(const pb::vma_entry& vma, std::vector<kernel::PageRegion>& out) override {
    size_t first = out.size();
    kernel::PageQuery query = kernel::kOwnedPages;
    query.returned = all_changed_ ? uint64_t{0} : uint64_t{kernel::kPageSoftDirty};
    pages_->scan(vma.start(), vma.end(), query, out);
    for (size_t i = first; i < out.size(); ++i) {
      bool changed = all_changed_ || (out[i].categories & kernel::kPageSoftDirty) != 0;
      out[i].categories = changed ? uint64_t{kernel::kPageWritten} : 0;
    }
  }

  void end_process() override {
    armed_.erase(process_.pid);
    if (is_first_of_memory_) arm();
    pages_.reset();
  }

  void forget_all() override { armed_.clear(); }

  void leave_for_next_command(const images::ImageDirectory& directory) override {
    ArmingRecord record{current_boot_id(), token_, {}};
    for (const auto& [pid, armed] : armed_) {
      if (armed.token == token_) record.processes.push_back(armed.process);
    }
    armed_.clear();
    try {
      write_record(directory, record);
    } catch (const Error& error) {
      log::warning("{}: the next round will find every page changed: {}", directory.path(), error.what());
    }
  }

 private:
  struct Armed {
    ProcessIdentity process;
    std::string token;
  };

  // Whether the bits tell what changed since the round before this one. A process that shares its memory with
  // one that was cleared a moment ago, in this very round, has lost its bits.
  bool is_armed() const {
    auto armed = armed_.find(process_.pid);
    return is_first_of_memory_ && armed != armed_.end() && armed->second.process == process_ &&
           registry_.last(process_) == armed->second.token;
  }

  // First the registry, then the bits: whoever dies in between has only spoiled its chance to save work.
  void arm() {
    try {
      registry_.set_last(process_, token_);
    } catch (const SystemError& error) {
      log::warning("pid {}: the next round will find every page changed: {}", process_.pid, error.what());
      return;
    }
    Fd file = open_at(AT_FDCWD, fmt::format("/proc/{}/clear_refs", process_.pid), O_WRONLY);
    write_all(file.get(), std::as_bytes(std::span(kClearSoftDirty)), "clear_refs");
    armed_[process_.pid] = {process_, token_};
  }

  ArmingRegistry registry_;
  std::string token_;  // of the rounds of this object
  std::map<pid_t, Armed> armed_;
  ClearedSpaces cleared_;
  pid_t root_ = 0;

  // Of the current process:
  ProcessIdentity process_;
  std::optional<kernel::PageMap> pages_;
  bool is_first_of_memory_ = false;
  bool all_changed_ = false;
};

}  // namespace

std::unique_ptr<DirtyTracker> make_soft_dirty_tracker(std::optional<ArmingRecord> earlier,
                                                      ArmingRegistry registry) {
  return std::make_unique<SoftDirtyTracker>(std::move(earlier), std::move(registry));
}

}  // namespace godwit::memory
