#include "engine/memory/write_protect_tracker.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/kernel/kernel_constants.h"
#include "engine/memory/in_flight_io.h"
#include "engine/memory/vma.h"

namespace godwit::memory {
namespace {

// Opens a userfaultfd of the process and takes it out of its descriptors. UFFD_USER_MODE_ONLY needs no
// privilege of the task, and means nothing here: asynchronous protection is lifted by the kernel itself,
// before a fault would be reported, also when it is the kernel that writes (read(2) into a buffer).
Fd open_userfaults(pid_t pid, tracee::RemoteCaller& caller, tracee::Tracee& leader) {
  tracee::Batch opening;
  auto opened = opening.call(SYS_userfaultfd, {O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY});
  int64_t number = caller.run(leader, opening).check(opened, "userfaultfd");
  Fd fd;
  int code = 0;
  if (Fd process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))); process) {
    fd.reset(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), number, 0)));
  }
  if (!fd) code = errno;
  tracee::Batch closing;
  auto closed = closing.call(SYS_close, {number});
  caller.run(leader, closing).check(closed, "close({})", number);
  if (!fd) throw SystemError(code, "pidfd_getfd({}, {})", pid, number);
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED;
  check(::ioctl(fd.get(), UFFDIO_API, &api), "UFFDIO_API");
  return fd;
}

// 0 or the errno.
int register_area(const Fd& userfaults, const pb::vma_entry& vma) {
  uffdio_register argument{};
  argument.range = {vma.start(), vma.end() - vma.start()};
  argument.mode = UFFDIO_REGISTER_MODE_WP;
  return ::ioctl(userfaults.get(), UFFDIO_REGISTER, &argument) == 0 ? 0 : errno;
}

void mark_all(std::vector<kernel::PageRegion>& regions, size_t first) {
  for (size_t i = first; i < regions.size(); ++i) regions[i].categories = kernel::kPageWritten;
}

class WriteProtectTracker final : public DirtyTracker {
 public:
  explicit WriteProtectTracker(std::vector<TrackedProcess> held) {
    if (!held.empty()) root_ = held.front().identity.pid;
    for (auto& process : held) {
      pid_t pid = process.identity.pid;
      processes_.insert_or_assign(pid, std::move(process));
    }
  }

  bool tracks() const override { return true; }
  void begin_process(pid_t pid, tracee::RemoteCaller& caller, tracee::Tracee& leader) override;
  void owned_pages(const pb::vma_entry& vma, std::vector<kernel::PageRegion>& out) override;
  void end_process() override;
  void forget_all() override { processes_.clear(); }
  void leave_for_next_command(const images::ImageDirectory& directory) override;

 private:
  enum class Cover {
    kNone,   // not ours to protect: every page counts as changed
    kFresh,  // registered just now
    kOurs,   // registered by us in an earlier round
  };
  struct Current {
    pid_t pid;
    tracee::RemoteCaller& caller;
    tracee::Tracee& leader;
    kernel::PageMap pages;
    bool all_changed = false;  // whatever the kernel says
    bool may_reopen = true;
    bool has_warned = false;  // of mappings with another userfaultfd: there may be hundreds
  };

  void start_round(const ProcessIdentity& root);
  void open(const ProcessIdentity& identity);
  Cover cover(const pb::vma_entry& vma);
  Cover reopen_and_cover(const pb::vma_entry& vma);
  bool take(const pb::vma_entry& vma, Cover cover, std::vector<kernel::PageRegion>& out);
  void lift_stale_protection(const pb::vma_entry& vma);

  std::map<pid_t, TrackedProcess> processes_;
  pid_t root_ = 0;  // the first process of every round
  std::optional<Current> current_;
};

// The root of the tree comes first in every round. What has ended since the last one is let go here, once per
// round.
void WriteProtectTracker::start_round(const ProcessIdentity& root) {
  root_ = root.pid;
  std::erase_if(processes_, [](const auto& entry) { return !is_alive(entry.second.identity); });
  // Another chain's protection would refuse ours: an earlier pre-dump into some other directory.
  auto known = processes_.find(root.pid);
  if (known == processes_.end() || known->second.identity != root) end_holder_of(root);
}

void WriteProtectTracker::begin_process(pid_t pid, tracee::RemoteCaller& caller, tracee::Tracee& leader) {
  current_.emplace(Current{pid, caller, leader, kernel::PageMap(pid)});
  ProcessIdentity identity = identity_of(pid);
  if (root_ == 0 || pid == root_) start_round(identity);
  auto known = processes_.find(pid);
  if (known == processes_.end() || known->second.identity != identity) open(identity);
  if (std::string reason = in_flight_io(pid); !reason.empty()) {
    log::warning("pid {}: {}: its memory cannot be tracked, every page counts as changed", pid, reason);
    current_->all_changed = true;
  }
}

// A new userfaultfd for the current process, in the place of one that belongs to an address space or a
// process that is gone. Without one (no free descriptor, a seccomp filter) the process is simply not tracked.
void WriteProtectTracker::open(const ProcessIdentity& identity) {
  current_->all_changed = true;
  processes_.erase(identity.pid);
  try {
    Fd userfaults = open_userfaults(identity.pid, current_->caller, current_->leader);
    processes_.emplace(identity.pid, TrackedProcess{identity, std::move(userfaults)});
  } catch (const SystemError& error) {
    log::warning("pid {}: its memory cannot be tracked, every page counts as changed: {}", identity.pid,
                 error.what());
  }
}

void WriteProtectTracker::owned_pages(const pb::vma_entry& vma, std::vector<kernel::PageRegion>& out) {
  size_t first = out.size();
  // A scan that fails halfway has armed pages whose answer is lost: the process starts anew.
  Cleanup forget([this] { processes_.erase(current_->pid); });
  Cover how = cover(vma);
  if (how == Cover::kNone || !take(vma, how, out)) {
    out.resize(first);
    current_->pages.scan(vma.start(), vma.end(), kernel::kOwnedPages, out);
    mark_all(out, first);
  } else if (current_->all_changed || how == Cover::kFresh) {
    mark_all(out, first);
  }
  forget.dismiss();
}

// Registers the mapping, whole, as part of one would split it, and a later mremap(2) of the task across the
// seam would fail. Always before the scan: a mapping may be protected by somebody else's userfaultfd, the
// target's own or another command's, and scanning it would both believe their arming and undo it. Registering
// again what is ours already changes nothing.
WriteProtectTracker::Cover WriteProtectTracker::cover(const pb::vma_entry& vma) {
  auto process = processes_.find(current_->pid);
  if (process == processes_.end()) return Cover::kNone;
  bool was_tracked = current_->pages.is_tracked(vma.start());
  int code = register_area(process->second.userfaults, vma);
  // The address space that it belongs to is gone (ESRCH), or is another process's, which has nothing there
  // (ENOMEM, EINVAL) or, worse, something: an exec by a task that shared its memory.
  bool is_elsewhere = code == 0 && !was_tracked && !current_->pages.is_tracked(vma.start());
  if (code == ESRCH || code == ENOMEM || is_elsewhere) return reopen_and_cover(vma);
  if (code == EBUSY && !std::exchange(current_->has_warned, true)) {
    log::warning("pid {}: {:x}-{:x} has another userfaultfd already: every page there counts as changed",
                 current_->pid, vma.start(), vma.end());
  }
  if (code != 0) return Cover::kNone;
  return was_tracked ? Cover::kOurs : Cover::kFresh;
}

WriteProtectTracker::Cover WriteProtectTracker::reopen_and_cover(const pb::vma_entry& vma) {
  if (!std::exchange(current_->may_reopen, false)) return Cover::kNone;
  open(identity_of(current_->pid));
  return cover(vma);
}

// Finds the pages and arms them. False when the mapping turns out not to be protected.
bool WriteProtectTracker::take(const pb::vma_entry& vma, Cover how, std::vector<kernel::PageRegion>& out) {
  const size_t first = out.size();
  kernel::PageQuery query = kernel::kOwnedPages;
  // In a mapping of a file, discarding a protected page (MADV_DONTNEED) leaves a marker that remembers the
  // protection. It looks like a swapped page that was not written, and is no page of the task's own any more:
  // what looks swapped is read again there.
  bool has_markers = !has_status(vma, kVmaAnonPrivate);
  if (has_markers) query.returned |= kernel::kPageSwapped;
  if (!current_->pages.take_written_if_tracked(vma.start(), vma.end(), query, out)) return false;
  auto is_clean = [](const kernel::PageRegion& region) {
    return (region.categories & kernel::kPageWritten) == 0;
  };
  if (how == Cover::kFresh && std::any_of(out.begin() + static_cast<ptrdiff_t>(first), out.end(), is_clean)) {
    lift_stale_protection(vma);
    out.resize(first);
    if (!current_->pages.take_written_if_tracked(vma.start(), vma.end(), query, out)) return false;
  }
  for (size_t i = first; has_markers && i < out.size(); ++i) {
    bool changed = (out[i].categories & (kernel::kPageWritten | kernel::kPageSwapped)) != 0;
    out[i].categories = changed ? uint64_t{kernel::kPageWritten} : 0;
  }
  return true;
}

// In a mapping that was not registered, nothing should be protected. Before Linux 6.13 a page that mremap(2)
// moved kept its bit, without its effect: written or not, it would look clean for ever, and is not armed
// again as it seems to be armed.
void WriteProtectTracker::lift_stale_protection(const pb::vma_entry& vma) {
  uffdio_writeprotect argument{};
  argument.range = {vma.start(), vma.end() - vma.start()};
  const Fd& userfaults = processes_.at(current_->pid).userfaults;
  check(::ioctl(userfaults.get(), UFFDIO_WRITEPROTECT, &argument), "pid {}: UFFDIO_WRITEPROTECT {:x}-{:x}",
        current_->pid, vma.start(), vma.end());
}

void WriteProtectTracker::end_process() {
  current_.reset();
}

void WriteProtectTracker::leave_for_next_command(const images::ImageDirectory& directory) {
  std::vector<TrackedProcess> left;
  if (auto root = processes_.extract(root_)) left.push_back(std::move(root.mapped()));
  for (auto& [pid, process] : processes_) left.push_back(std::move(process));
  processes_.clear();
  try {
    leave_with_holder(directory, std::move(left));
  } catch (const Error& error) {
    log::warning("{}: the next round will find every page changed: {}", directory.path(), error.what());
  }
}

}  // namespace

std::unique_ptr<DirtyTracker> make_write_protect_tracker(std::vector<TrackedProcess> held) {
  return std::make_unique<WriteProtectTracker>(std::move(held));
}

}  // namespace godwit::memory
