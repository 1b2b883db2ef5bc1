#include "engine/files/timerfd.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>

#include <limits>

#include "engine/base/error.h"
#include "engine/files/description_state.h"
#include "engine/kernel/fdinfo.h"

namespace godwit::files {
namespace {

// TFD_IOC_SET_TICKS, include/uapi/linux/timerfd.h, which cannot stand beside <sys/timerfd.h>.
constexpr unsigned long kSetTicks = _IOW('T', 0, uint64_t);
constexpr uint64_t kNanosecondsPerSecond = 1'000'000'000;

// An interval timer that has expired stands still until somebody reads it or asks for its time, and fdinfo
// shows nothing to go. Asking for the time sets it going and is seen by nobody else.
kernel::TimerfdInfo read_running(const kinds::OpenFile& file) {
  constexpr int kTries = 3;  // it may expire between asking and reading
  kernel::TimerfdInfo info = kernel::parse_timerfd_info(file.info);
  auto stands_still = [&] {
    bool has_interval = info.interval_seconds != 0 || info.interval_nanoseconds != 0;
    return has_interval && info.ticks != 0 && info.value_seconds == 0 && info.value_nanoseconds == 0;
  };
  for (int i = 0; i < kTries && stands_still(); ++i) {
    itimerspec time{};
    check(::timerfd_gettime(file.duplicate.get(), &time), "timerfd_gettime");
    info = kernel::parse_timerfd_info(
        read_file(AT_FDCWD, fmt::format("/proc/self/fdinfo/{}", file.duplicate.get())));
  }
  return info;
}

// The time that is `to_go` from now on the timer's clock.
timespec from_now(int clock_id, timespec to_go) {
  timespec now{};
  check(::clock_gettime(clock_id, &now), "clock_gettime({})", clock_id);
  now.tv_sec += to_go.tv_sec;
  now.tv_nsec += to_go.tv_nsec;
  if (now.tv_nsec >= static_cast<long>(kNanosecondsPerSecond)) {
    now.tv_nsec -= static_cast<long>(kNanosecondsPerSecond);
    ++now.tv_sec;
  }
  return now;
}

timespec checked_time(uint64_t seconds, uint64_t nanoseconds) {
  if (seconds > std::numeric_limits<int32_t>::max() * uint64_t{4096} ||
      nanoseconds >= kNanosecondsPerSecond) {
    throw FormatError("timerfd: {} seconds and {} nanoseconds are no time", seconds, nanoseconds);
  }
  return {.tv_sec = static_cast<time_t>(seconds), .tv_nsec = static_cast<long>(nanoseconds)};
}

class TimerfdKind final : public kinds::FileKind {
 public:
  pb::fd_types type() const override { return pb::TIMERFD; }

  bool recognises(const kinds::OpenFile& file) const override {
    return file.target == "anon_inode:[timerfd]";
  }

  void collect(const kinds::OpenFile& file, const kinds::Policy&, pb::file_entry& entry,
               kinds::Problems&) override {
    kernel::TimerfdInfo info = read_running(file);
    pb::timerfd_entry& timer = *entry.mutable_tfd();
    timer.set_id(entry.id());
    timer.set_flags(file.flags);
    *timer.mutable_fown() = collect_owner(file);
    timer.set_clockid(static_cast<uint32_t>(info.clock_id));
    timer.set_ticks(info.ticks);
    timer.set_settime_flags(info.settime_flags);
    timer.set_vsec(info.value_seconds);
    timer.set_vnsec(info.value_nanoseconds);
    timer.set_isec(info.interval_seconds);
    timer.set_insec(info.interval_nanoseconds);
  }

  Fd open(const pb::file_entry& entry, const kinds::Policy&) override {
    const pb::timerfd_entry& timer = entry.tfd();
    int clock_id = static_cast<int>(timer.clockid());
    Fd fd(check(::timerfd_create(clock_id, TFD_CLOEXEC), "timerfd_create({})", clock_id));
    itimerspec time{.it_interval = checked_time(timer.isec(), timer.insec()),
                    .it_value = checked_time(timer.vsec(), timer.vnsec())};
    // A dump by CRIU may show one that has expired as it stands, with nothing to go: it goes on from now.
    if (timer.ticks() != 0 && time.it_value.tv_sec == 0 && time.it_value.tv_nsec == 0)
      time.it_value = time.it_interval;
    bool armed = time.it_value.tv_sec != 0 || time.it_value.tv_nsec != 0;
    if (armed && (timer.settime_flags() & TFD_TIMER_ABSTIME))
      time.it_value = from_now(clock_id, time.it_value);
    check(::timerfd_settime(fd.get(), static_cast<int>(timer.settime_flags()), &time, nullptr),
          "timerfd_settime");
    if (timer.ticks() != 0) {
      uint64_t ticks = timer.ticks();
      check(::ioctl(fd.get(), kSetTicks, &ticks), "ioctl(TFD_IOC_SET_TICKS, {})", ticks);
    }
    set_status_flags(fd.get(), timer.flags());
    return fd;
  }
};

}  // namespace

std::unique_ptr<kinds::FileKind> make_timerfd_kind() {
  return std::make_unique<TimerfdKind>();
}

}  // namespace godwit::files
