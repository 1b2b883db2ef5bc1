#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

// /proc/PID/fdinfo/N as structures: pure text, no system calls. Source: proc(5), "fdinfo";
// Documentation/filesystems/proc.rst, 3.8. Every parser throws FormatError for text that is not of its kind.
namespace godwit::kernel {

// What stands there for every kind of file.
struct FdInfo {
  uint64_t position = 0;
  // O_*, of the description; the kernel adds O_CLOEXEC when the descriptor is close-on-exec.
  uint32_t flags = 0;
  int mount_id = -1;
};
FdInfo parse_fdinfo(std::string_view text);

struct EventfdInfo {
  uint64_t count = 0;
  bool semaphore = false;  // false too where the kernel (before 6.5) does not tell
};
EventfdInfo parse_eventfd_info(std::string_view text);

struct TimerfdInfo {
  int clock_id = 0;
  uint64_t ticks = 0;                                 // expirations that were not read yet
  uint32_t settime_flags = 0;                         // TFD_TIMER_*
  uint64_t value_seconds = 0, value_nanoseconds = 0;  // until the next expiration; 0 when disarmed or due
  uint64_t interval_seconds = 0, interval_nanoseconds = 0;
};
TimerfdInfo parse_timerfd_info(std::string_view text);

// One file that an epoll watches, under the number it had when it was added; the number may mean another file
// today.
struct EpollTarget {
  int number = -1;
  uint32_t events = 0;  // EPOLL*, ERR and HUP included; only the private bits when a ONESHOT has fired
  uint64_t data = 0;
  uint64_t position = 0, inode = 0;
  uint32_t device = 0;  // the kernel's own encoding: major << 20 | minor
};
// In the order of the text, which is the order in which KCMP_EPOLL_TFD counts.
std::vector<EpollTarget> parse_epoll_targets(std::string_view text);

}  // namespace godwit::kernel
