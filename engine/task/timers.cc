#include "engine/task/timers.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

#include <algorithm>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/kernel/kernel_constants.h"
#include "engine/kernel/text_fields.h"

namespace godwit::task {
namespace {

// A bound on ids that a hostile image could make us count up to, one call each.
constexpr uint32_t kMaxTimerId = 1u << 16;

// struct sigevent as timer_create(2) has it.
struct KernelSigevent {
  uint64_t value = 0;
  int32_t signal = 0, notify = 0;
  int32_t thread_id = 0;
  std::array<int32_t, 11> padding{};
};
static_assert(sizeof(KernelSigevent) == 64);

struct PosixTimer {
  uint32_t id = 0, clock = 0, notify = 0, signal = 0;
  uint64_t value = 0;
  int32_t thread_id = 0;
};

// /proc/PID/timers, proc(5): four lines a timer, "ID: 0", "signal: 60/00007fff86e452a8", "notify:
// signal/pid.2634", "ClockID: 1".
std::vector<PosixTimer> parse_timers(std::string_view text) {
  std::vector<PosixTimer> timers;
  while (!text.empty()) {
    std::string_view line = kernel::take_until(text, '\n');
    std::string_view key = kernel::take_until(line, ':');
    std::string_view value = kernel::take_word(line);
    if (key == "ID") {
      timers.emplace_back().id = kernel::parse_number<uint32_t>(value, "timers: ID");
    } else if (timers.empty()) {
      throw FormatError("timers: '{}' before the first ID", key);
    } else if (key == "signal") {
      timers.back().signal = kernel::parse_number<uint32_t>(kernel::take_until(value, '/'), "timers: signal");
      timers.back().value = kernel::parse_number<uint64_t>(value, "timers: value", 16);
    } else if (key == "notify") {
      std::string_view how = kernel::take_until(value, '/');
      timers.back().notify = how == "none" ? SIGEV_NONE : how == "thread" ? SIGEV_THREAD : SIGEV_SIGNAL;
      if (kernel::take_until(value, '.') == "tid") {
        timers.back().notify |= SIGEV_THREAD_ID;
        timers.back().thread_id = kernel::parse_number<int32_t>(value, "timers: tid");
      }
    } else if (key == "ClockID") {
      // CPU-time clocks of a process or thread are negative.
      timers.back().clock = static_cast<uint32_t>(kernel::parse_number<int32_t>(value, "timers: ClockID"));
    }
  }
  return timers;
}

void encode(const itimerval& timer, pb::itimer_entry& entry) {
  entry.set_isec(static_cast<uint64_t>(timer.it_interval.tv_sec));
  entry.set_iusec(static_cast<uint64_t>(timer.it_interval.tv_usec));
  entry.set_vsec(static_cast<uint64_t>(timer.it_value.tv_sec));
  entry.set_vusec(static_cast<uint64_t>(timer.it_value.tv_usec));
}

itimerval decode(const pb::itimer_entry& entry) {
  itimerval timer{};
  timer.it_interval = {static_cast<time_t>(entry.isec()), static_cast<suseconds_t>(entry.iusec())};
  timer.it_value = {static_cast<time_t>(entry.vsec()), static_cast<suseconds_t>(entry.vusec())};
  return timer;
}

bool armed(const itimerval& timer) {
  return timer.it_value.tv_sec != 0 || timer.it_value.tv_usec != 0;
}

void encode(const PosixTimer& timer, const itimerspec& left, uint32_t overrun, pb::posix_timer_entry& entry) {
  entry.set_it_id(timer.id);
  entry.set_clock_id(timer.clock);
  entry.set_si_signo(timer.signal);
  entry.set_it_sigev_notify(timer.notify);
  entry.set_sival_ptr(timer.value);
  entry.set_overrun(overrun);
  entry.set_isec(static_cast<uint64_t>(left.it_interval.tv_sec));
  entry.set_insec(static_cast<uint64_t>(left.it_interval.tv_nsec));
  entry.set_vsec(static_cast<uint64_t>(left.it_value.tv_sec));
  entry.set_vnsec(static_cast<uint64_t>(left.it_value.tv_nsec));
  if (timer.thread_id != 0) entry.set_notify_thread_id(timer.thread_id);
}

class TimersPart final : public TaskPart {
 public:
  Answer ask(const ThreadFacts& thread, tracee::Batch& batch, pb::core_entry&,
             kinds::Problems& problems) override {
    if (!thread.leader) return {};
    std::vector<tracee::Batch::Data> interval;
    for (int which : {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF}) {
      interval.push_back(batch.reserve(sizeof(itimerval), alignof(itimerval)));
      batch.call(SYS_getitimer, {which, interval.back()});
    }
    auto posix = parse_timers(read_file(AT_FDCWD, fmt::format("/proc/{}/timers", thread.tracee.pid())));
    std::sort(posix.begin(), posix.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
    std::vector<tracee::Batch::Data> left;
    std::vector<tracee::Batch::Result> overruns;
    for (const PosixTimer& timer : posix) {
      if (static_cast<int32_t>(timer.clock) < 0) {
        problems.add("pid {}: timer {} counts another task's CPU time: not available yet",
                     thread.tracee.pid(), timer.id);
      }
      left.push_back(batch.reserve(sizeof(itimerspec), alignof(itimerspec)));
      batch.call(SYS_timer_gettime, {timer.id, left.back()});
      overruns.push_back(batch.call(SYS_timer_getoverrun, {timer.id}));
    }
    return [=](const tracee::BatchResults& results, pb::core_entry& core) {
      auto& timers = *core.mutable_tc()->mutable_timers();
      encode(results.get<itimerval>(interval[0]), *timers.mutable_real());
      encode(results.get<itimerval>(interval[1]), *timers.mutable_virt());
      encode(results.get<itimerval>(interval[2]), *timers.mutable_prof());
      for (size_t i = 0; i < posix.size(); ++i) {
        encode(posix[i], results.get<itimerspec>(left[i]), static_cast<uint32_t>(results.value(overruns[i])),
               *timers.add_posix());
      }
    };
  }

  void plan(const ThreadImage& thread, kinds::Problems& problems) override {
    int64_t previous = -1;
    for (const auto& timer : thread.core.tc().timers().posix()) {
      if (timer.it_id() > kMaxTimerId || int64_t{timer.it_id()} <= previous) {
        problems.add("core of pid {}: timer id {} is out of order or bounds", thread.pid, timer.it_id());
      }
      previous = timer.it_id();
    }
  }

  void restore(const ThreadImage& thread, tracee::Batch& batch) override {
    if (!thread.leader || !thread.core.tc().has_timers()) return;
    const auto& timers = thread.core.tc().timers();
    create_posix_timers(timers, batch);
    for (const auto& timer : timers.posix()) {
      itimerspec left{};
      left.it_interval = {static_cast<time_t>(timer.isec()), static_cast<long>(timer.insec())};
      left.it_value = {static_cast<time_t>(timer.vsec()), static_cast<long>(timer.vnsec())};
      batch.call(SYS_timer_settime, {timer.it_id(), 0, batch.put_object(left), 0});
    }
    set_interval_timer(ITIMER_REAL, decode(timers.real()), batch);
    set_interval_timer(ITIMER_VIRTUAL, decode(timers.virt()), batch);
    set_interval_timer(ITIMER_PROF, decode(timers.prof()), batch);
  }

 private:
  static void set_interval_timer(int which, const itimerval& timer, tracee::Batch& batch) {
    if (armed(timer)) batch.call(SYS_setitimer, {which, batch.put_object(timer), 0});
  }

  // Since Linux 6.15 a process may ask for an id. Before, ids count up from 0 in a new process, and one is
  // reached by creating and deleting those below it.
  static void create_posix_timers(const pb::task_timers_entry& timers, tracee::Batch& batch) {
    if (timers.posix_size() == 0) return;
    static const bool ids_can_be_asked_for =
        ::prctl(PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_GET, 0, 0, 0) >= 0;
    if (ids_can_be_asked_for) {
      batch.call(SYS_prctl, {PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_ON, 0, 0, 0});
    }
    uint32_t next = 0;
    for (const auto& timer : timers.posix()) {
      for (; !ids_can_be_asked_for && next < timer.it_id(); ++next) {
        create(timer, next, batch);
        batch.call(SYS_timer_delete, {next});
      }
      create(timer, timer.it_id(), batch);
      next = timer.it_id() + 1;
    }
    if (ids_can_be_asked_for) {
      batch.call(SYS_prctl, {PR_TIMER_CREATE_RESTORE_IDS, PR_TIMER_CREATE_RESTORE_IDS_OFF, 0, 0, 0});
    }
  }

  static void create(const pb::posix_timer_entry& timer, uint32_t id, tracee::Batch& batch) {
    KernelSigevent event{.value = timer.sival_ptr(),
                         .signal = static_cast<int32_t>(timer.si_signo()),
                         .notify = static_cast<int32_t>(timer.it_sigev_notify()),
                         .thread_id = timer.notify_thread_id()};
    batch.call(SYS_timer_create, {timer.clock_id(), batch.put_object(event), batch.put_object(id)});
  }
};

}  // namespace

std::unique_ptr<TaskPart> make_timers_part() {
  return std::make_unique<TimersPart>();
}

}  // namespace godwit::task
