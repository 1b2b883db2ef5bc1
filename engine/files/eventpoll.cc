#include "engine/files/eventpoll.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <map>
#include <optional>
#include <set>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/files/description_state.h"
#include "engine/files/descriptor_list.h"
#include "engine/kernel/fdinfo.h"

namespace godwit::files {
namespace {

// The bits that are not events (fs/eventpoll.c: EP_PRIVATE_BITS). A registration of only these waits for
// nothing, not even errors: a ONESHOT that has fired.
constexpr uint32_t kPrivateBits = EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE;

bool has_fired(uint32_t events) {
  return (events & ~kPrivateBits) == 0;
}

// Finds under which numbers a process has the files that its epoll watches. An entry keeps the number under
// which the file was added, and that number may have been closed or used again since.
class TargetFinder {
 public:
  explicit TargetFinder(const kinds::OpenFile& epoll) : epoll_(epoll) {}

  // `skip`: how many entries before this one have the same number.
  std::optional<int> find(const kernel::EpollTarget& target, unsigned skip, const std::set<int>& taken) {
    if (is_target(target.number, target, skip)) return target.number;
    for (int number : numbers()) {
      if (!taken.contains(number) && is_target(number, target, skip)) return number;
    }
    return std::nullopt;
  }

 private:
  bool is_target(int number, const kernel::EpollTarget& target, unsigned skip) const {
    struct stat status {};
    std::string link = fmt::format("/proc/{}/fd/{}", epoll_.pid, number);
    if (::stat(link.c_str(), &status) < 0) return false;
    uint32_t device = major(status.st_dev) << 20 | minor(status.st_dev);
    if (status.st_ino != target.inode || device != target.device) return false;
    // A socket has one description. For the others the kernel is asked, which walks the whole epoll for it.
    if (S_ISSOCK(status.st_mode)) return true;
    kcmp_epoll_slot slot{.efd = static_cast<uint32_t>(epoll_.number),
                         .tfd = static_cast<uint32_t>(target.number),
                         .toff = skip};
    return ::syscall(SYS_kcmp, epoll_.pid, epoll_.pid, KCMP_EPOLL_TFD, number, &slot) == 0;
  }

  const std::vector<int>& numbers() {
    if (numbers_.empty()) numbers_ = list_descriptors(epoll_.pid);
    return numbers_;
  }

  const kinds::OpenFile& epoll_;
  std::vector<int> numbers_;  // read when first needed
};

tracee::Batch::Data put_event(tracee::Batch& batch, uint32_t events, uint64_t data) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = data;
  return batch.put_object(event);
}

// A new registration always waits for errors and hang-ups, and a fired ONESHOT must not: so it is made to
// fire. One that is ready is registered for everything and taken out by one epoll_wait, before anything else
// is registered; one that is not ready waits for errors and hang-ups only, which is as near as the kernel
// lets us. poll(2) gives 1 or 0: EPOLL_CTL_ADD, or an operation that there is not.
void add_fired(const std::vector<pb::eventpoll_tfd_entry>& fired, int epoll, tracee::Batch& batch) {
  constexpr short kAnything = POLLIN | POLLOUT | POLLPRI | POLLRDHUP;
  static_assert(EPOLL_CTL_ADD == 1);
  for (const auto& target : fired) {
    int number = static_cast<int>(target.tfd());
    auto poll = batch.call(SYS_poll, {batch.put_in_out_object(pollfd{number, kAnything, 0}), 1, 0});
    auto event = put_event(batch, EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLONESHOT, target.data());
    batch.call(SYS_epoll_ctl, {epoll, poll, number, event}, tracee::OnFailure::kContinue);
  }
  auto reports = batch.reserve(fired.size() * sizeof(epoll_event));
  batch.call(SYS_epoll_wait, {epoll, reports, fired.size(), 0});
  for (const auto& target : fired) {
    auto event = put_event(batch, target.events(), target.data());
    // Fails (EEXIST) for those that were ready.
    batch.call(SYS_epoll_ctl, {epoll, EPOLL_CTL_ADD, target.tfd(), event}, tracee::OnFailure::kContinue);
  }
}

class EventpollKind final : public kinds::FileKind {
 public:
  pb::fd_types type() const override { return pb::EVENTPOLL; }

  bool recognises(const kinds::OpenFile& file) const override {
    return file.target == "anon_inode:[eventpoll]";
  }

  void collect(const kinds::OpenFile& file, const kinds::Policy&, pb::file_entry& entry,
               kinds::Problems& problems) override {
    pb::eventpoll_file_entry& epoll = *entry.mutable_epfd();
    epoll.set_id(entry.id());
    epoll.set_flags(file.flags);
    *epoll.mutable_fown() = collect_owner(file);
    TargetFinder finder(file);
    std::map<int, unsigned> seen;
    std::set<int> taken;
    for (const kernel::EpollTarget& target : kernel::parse_epoll_targets(file.info)) {
      auto number = finder.find(target, seen[target.number]++, taken);
      if (!number || !taken.insert(*number).second) {
        problems.add(
            "{}: watches a file that was added as fd {} and that this process has under no number now "
            "(inode {}): close it everywhere or keep it open",
            place_of(file), target.number, target.inode);
        continue;
      }
      pb::eventpoll_tfd_entry& tfd = *epoll.add_tfd();
      tfd.set_id(entry.id());
      tfd.set_tfd(static_cast<uint32_t>(*number));
      tfd.set_events(target.events);
      tfd.set_data(target.data);
      tfd.set_dev(target.device);
      tfd.set_inode(target.inode);
      tfd.set_pos(target.position);
    }
  }

  Fd open(const pb::file_entry& entry, const kinds::Policy&) override {
    Fd fd(check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1"));
    set_status_flags(fd.get(), entry.epfd().flags());
    return fd;
  }

  std::vector<int> numbers_needed(const pb::file_entry& entry) const override {
    std::vector<int> numbers;
    for (const auto& target : entry.epfd().tfd()) numbers.push_back(static_cast<int>(target.tfd()));
    return numbers;
  }

  void finish_in_task(const pb::file_entry& entry, int number, tracee::Batch& batch) override {
    std::vector<pb::eventpoll_tfd_entry> fired;
    for (const auto& target : entry.epfd().tfd()) {
      if (has_fired(target.events())) fired.push_back(target);
    }
    if (!fired.empty()) add_fired(fired, number, batch);
    for (const auto& target : entry.epfd().tfd()) {
      if (has_fired(target.events())) continue;
      auto event = put_event(batch, target.events(), target.data());
      batch.call(SYS_epoll_ctl, {number, EPOLL_CTL_ADD, target.tfd(), event});
    }
  }
};

}  // namespace

std::unique_ptr<kinds::FileKind> make_eventpoll_kind() {
  return std::make_unique<EventpollKind>();
}

}  // namespace godwit::files
