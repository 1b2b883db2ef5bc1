#include "lazypages/daemon.h"

#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <map>
#include <utility>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/base/units.h"
#include "engine/images/pagemap.h"
#include "lazypages/lazy_images.h"
#include "lazypages/page_family.h"
#include "lazypages/source_link.h"
#include "lazypages/task_process.h"

namespace godwit::lazypages {
namespace {

using Clock = std::chrono::steady_clock;

// Between two looks whether the tasks still live.
constexpr std::chrono::seconds kTick{1};
constexpr std::chrono::seconds kLongSilence{10};

// What an epoll event is about: one of these, or a task by its id.
enum Token : uint32_t { kListener = 1, kHandover, kStop, kSource, kFirstTask };

}  // namespace

class Daemon::Loop {
 public:
  Loop(const DaemonSettings& settings, std::optional<pageserver::LazyClient> source)
      : settings_(settings), epoll_(check(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")) {
    if (settings.stop_fd >= 0) watch(settings.stop_fd, kStop);
    if (!source) return;
    link_.emplace(std::move(*source));
    watch(link_->fd(), kSource);
  }

  Outcome serve(memory::LazyHandoverListener& listener);

 private:
  struct Member {
    PageFamily* family;
    LazyTask* task;
    bool known = false;  // to the guardian, as a process
  };

  void watch(int fd, uint64_t token);
  void unwatch(int fd) { ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

  void step(memory::LazyHandoverListener& listener);
  timespec wait_time() const;
  void dispatch(uint64_t token, memory::LazyHandoverListener& listener);
  void take_messages();
  void adopt(memory::LazyHandover::Task task);
  void guard(PageFamily& family, std::unique_ptr<LazyTask> task);
  void restore_finished();
  void identify(uint64_t pid, LazyTask& task);
  void serve_events(LazyTask& task);

  void exchange_pages();
  void place(const SourceLink::Arrival& arrival);
  void request_background();
  void link_lost(const std::string& why);
  void retry();
  void release_done();
  void tick(Clock::time_point now);

  bool is_over();
  void give_up(const std::string& why);
  uint64_t missing_pages() const;
  Outcome finish();

  const DaemonSettings settings_;
  Fd epoll_;
  std::optional<SourceLink> link_;
  std::optional<memory::LazyHandover> handover_;
  bool finished_ = false;  // the restore has said so
  bool stop_ = false;
  std::map<uint64_t, PageFamily> families_;  // by the pid of the image
  std::map<uint32_t, Member> members_;       // by id
  std::map<uint64_t, uint64_t> held_pages_;  // by pid: LazyImage::held_page
  uint32_t next_id_ = kFirstTask;            // ids are tokens too
  bool more_ = false;                        // the link may hold another answer already
  bool retry_ = false;
  bool changed_ = false;  // somebody may have become done
  Clock::time_point next_tick_{}, first_request_{}, last_page_{};
  bool silence_reported_ = false;
  std::string lost_;  // why the connection was lost
  std::optional<Clock::time_point> lost_at_;
  Outcome outcome_;
};

Daemon::Daemon(const DaemonSettings& settings, std::optional<pageserver::LazyClient> source)
    : loop_(std::make_unique<Loop>(settings, std::move(source))) {}
Daemon::~Daemon() = default;

Outcome Daemon::serve(memory::LazyHandoverListener& listener) {
  return loop_->serve(listener);
}

void Daemon::Loop::watch(int fd, uint64_t token) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = token;
  check(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

Outcome Daemon::Loop::serve(memory::LazyHandoverListener& listener) {
  watch(listener.fd(), kListener);
  while (!is_over()) step(listener);
  return finish();
}

void Daemon::Loop::step(memory::LazyHandoverListener& listener) {
  std::array<epoll_event, 64> events;
  timespec wait = wait_time();
  int count = ::epoll_pwait2(epoll_.get(), events.data(), static_cast<int>(events.size()), &wait, nullptr);
  if (count < 0 && errno != EINTR) throw SystemError(errno, "epoll_wait");
  for (const epoll_event& event : std::span(events).first(static_cast<size_t>(std::max(count, 0)))) {
    dispatch(event.data.u64, listener);
  }
  if (retry_) retry();
  if (link_) exchange_pages();
  if (changed_) release_done();
  if (auto now = Clock::now(); now >= next_tick_) tick(now);
}

timespec Daemon::Loop::wait_time() const {
  if (more_) return {0, 0};
  // Soon again: for what a changing address space held up, and for the next turn of the background.
  if (retry_ || (link_ && link_->waits_for_turn())) {
    return {0, std::chrono::nanoseconds(BackgroundWindow::kBetweenTurns).count()};
  }
  return {std::chrono::seconds(kTick).count(), 0};
}

void Daemon::Loop::dispatch(uint64_t token, memory::LazyHandoverListener& listener) {
  switch (token) {
    case kListener:
      if (handover_) return;
      handover_ = listener.accept_if_ready();
      if (!handover_) return;
      unwatch(listener.fd());
      watch(handover_->fd(), kHandover);
      return;
    case kHandover:
      take_messages();
      if (!handover_ && !finished_) watch(listener.fd(), kListener);
      return;
    case kStop:
      stop_ = true;
      return;
    case kSource:
      more_ = true;
      return;
    default:
      // It may have gone while this batch of events was handled.
      if (auto at = members_.find(static_cast<uint32_t>(token)); at != members_.end())
        serve_events(*at->second.task);
  }
}

void Daemon::Loop::take_messages() {
  while (auto message = handover_->receive_if_ready()) {
    if (auto* task = std::get_if<memory::LazyHandover::Task>(&*message)) {
      adopt(std::move(*task));
    } else if (std::holds_alternative<memory::LazyHandover::Finished>(*message)) {
      restore_finished();
    } else {
      if (!finished_ && !families_.empty())
        throw Error("the restore failed: it ended before it was complete");
      unwatch(handover_->fd());
      handover_.reset();  // without a task, somebody has only looked whether we are here
      return;
    }
  }
}

void Daemon::Loop::adopt(memory::LazyHandover::Task task) {
  ErrorContext context{"pid {}", task.pid};
  auto pid = static_cast<uint64_t>(task.pid);
  LazyImage image = read_lazy_image(settings_.images, pid);
  log::info("pid {}: {} pages are to come", pid, image.missing.pages());
  if (!link_ && !image.missing.empty()) {
    throw Error("{} pages are in no image: --page-server is needed", image.missing.pages());
  }
  if (image.held_page) held_pages_.emplace(pid, *image.held_page);
  auto [at, is_new] = families_.try_emplace(pid, pid);
  if (!is_new) throw FormatError("the restore handed it over twice");
  guard(at->second, std::make_unique<LazyTask>(next_id_++, kernel::Userfaultfd(std::move(task.userfaultfd)),
                                               std::move(image.missing)));
}

void Daemon::Loop::guard(PageFamily& family, std::unique_ptr<LazyTask> task) {
  LazyTask& adopted = family.adopt(std::move(task));
  settings_.guardian.hold(adopted.id(), adopted.fd());
  members_.emplace(adopted.id(), Member{&family, &adopted, false});
  watch(adopted.fd(), adopted.id());
}

// Only now are the areas of a stock restore registered, so pages can be placed from now on, and a process can
// be known by its areas.
void Daemon::Loop::restore_finished() {
  finished_ = true;
  changed_ = true;
  for (auto& [pid, family] : families_) {
    for (const auto& task : family.tasks()) {
      if (task->is_done()) continue;
      identify(pid, *task);
    }
  }
}

void Daemon::Loop::identify(uint64_t pid, LazyTask& task) {
  ErrorContext context{"pid {}", pid};
  TaskProcess process = find_process(static_cast<pid_t>(pid), task.missing());
  if (!process.pidfd) {
    if (task.has_ended()) return;
    log::warning("pid {}: its process was not found, so it cannot be killed if its pages do not come", pid);
    return;
  }
  settings_.guardian.identify(task.id(), process.pidfd.get());
  members_.at(task.id()).known = true;
  if (auto held = held_pages_.find(pid); held != held_pages_.end() && !has_page(process, held->second)) {
    throw Error("the restore has left out pages that the images hold: only a restore of this program fits");
  }
}

void Daemon::Loop::serve_events(LazyTask& task) {
  PageFamily& family = *members_.at(task.id()).family;
  auto events = task.read_events(next_id_, outcome_.statistics);
  for (auto& child : events.children) guard(family, std::move(child));
  for (uint64_t address : events.faults) family.fault(task, address, outcome_.statistics);
  retry_ = retry_ || family.has_to_retry();
  changed_ = changed_ || task.is_done();
}

// Faults before answers before the background, one answer at a time, so that a fault never waits longer than
// it takes to place one.
void Daemon::Loop::exchange_pages() {
  std::optional<SourceLink::Arrival> arrival;
  try {
    for (auto& [pid, family] : families_) family.request_wanted(*link_);
    if (std::exchange(more_, false)) arrival = link_->receive_if_ready();
  } catch (const Error& error) {
    return link_lost(error.what());
  }
  if (arrival) place(*arrival);
  if (!finished_) return;
  try {
    request_background();
  } catch (const Error& error) {
    link_lost(error.what());
  }
}

void Daemon::Loop::place(const SourceLink::Arrival& arrival) {
  PageFamily& family = families_.at(arrival.pid);
  family.arrived(arrival, outcome_.statistics);
  last_page_ = Clock::now();
  more_ = true;
  silence_reported_ = false;
  retry_ = retry_ || family.has_to_retry();
  changed_ = true;
}

void Daemon::Loop::request_background() {
  auto request_one = [&](uint64_t most) {
    for (auto& [pid, family] : families_) {
      if (family.request_predicted(*link_, most)) return true;
    }
    return std::any_of(families_.begin(), families_.end(),
                       [&](auto& entry) { return entry.second.request_any(*link_, most); });
  };
  while (uint64_t most = link_->background_pages()) {
    if (!request_one(most)) return;
    if (first_request_ == Clock::time_point{}) first_request_ = Clock::now();
  }
}

void Daemon::Loop::link_lost(const std::string& why) {
  unwatch(link_->fd());
  link_.reset();
  more_ = false;
  lost_ = why;
  lost_at_ = Clock::now();
  for (auto& [pid, family] : families_) family.link_lost();
  log::error(
      "{}: the connection is lost with {} pages to come for {} tasks, which wait where they need them; "
      "they are killed when this daemon ends{}",
      why, missing_pages(), members_.size(),
      settings_.patience ? fmt::format(", in {} s", settings_.patience->count()) : "");
}

void Daemon::Loop::retry() {
  retry_ = false;
  // The events that hold it up may be due already.
  for (auto& [pid, family] : families_) {
    if (!family.has_to_retry()) continue;
    family.retry(outcome_.statistics);
    retry_ = retry_ || family.has_to_retry();
  }
  changed_ = true;
}

void Daemon::Loop::release_done() {
  changed_ = false;
  if (!finished_) return;
  for (auto& [pid, family] : families_) {
    for (const auto& task : family.extract_done()) {
      log::debug("pid {}: task {}: nothing is missing any more", pid, task->id());
      unwatch(task->fd());  // as the guardian has it open for a while yet
      members_.erase(task->id());
      settings_.guardian.release(task->id());
    }
  }
}

void Daemon::Loop::tick(Clock::time_point now) {
  next_tick_ = now + kTick;
  for (auto& [id, member] : members_) changed_ = member.task->has_ended() || changed_;
  if (link_ && link_->silence(now) > kLongSilence && !std::exchange(silence_reported_, true)) {
    log::warning("the page server has been silent for {} s; {} faults wait",
                 std::chrono::duration_cast<std::chrono::seconds>(link_->silence(now)).count(),
                 link_->wanted());
  }
}

bool Daemon::Loop::is_over() {
  bool impatient = lost_at_ && settings_.patience && Clock::now() - *lost_at_ >= *settings_.patience;
  if (stop_ || impatient) give_up(lost_at_ ? lost_ : "the daemon was told to end");
  return !outcome_.reason.empty() || (finished_ && members_.empty());
}

// The guardian kills those it knows when we end; it does not know forked children, as the kernel tells their
// address spaces and not their pids.
void Daemon::Loop::give_up(const std::string& why) {
  outcome_.reason = why;
  outcome_.missing_pages = missing_pages();
  for (auto& [id, member] : members_) {
    if (member.known) continue;
    if (member.task->poison_missing()) {
      settings_.guardian.release(id);
    } else {
      log::warning(
          "task {}: this kernel cannot poison missing pages (Linux 6.6 can): it waits for them for ever", id);
    }
  }
}

uint64_t Daemon::Loop::missing_pages() const {
  uint64_t pages = 0;
  for (const auto& [id, member] : members_) pages += member.task->missing().pages();
  return pages;
}

Outcome Daemon::Loop::finish() {
  if (first_request_ != Clock::time_point{} && last_page_ > first_request_) {
    outcome_.statistics.transfer = last_page_ - first_request_;
  }
  if (!outcome_.reason.empty()) return std::move(outcome_);
  if (lost_at_) {
    outcome_.reason = lost_;  // and the tasks have ended by themselves since
    return std::move(outcome_);
  }
  settings_.guardian.finish();
  if (link_) link_->close();
  outcome_.complete = true;
  return std::move(outcome_);
}

}  // namespace godwit::lazypages
