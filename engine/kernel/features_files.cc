#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/kernel/feature_probes.h"
#include "engine/kernel/kernel_constants.h"

namespace godwit::kernel::probes {
namespace {

// include/uapi/linux/auto_dev-ioctl.h, which no C++ compiler takes; without a path at its end.
struct AutofsDeviceArgument {
  uint32_t major = 1, minor = 0;
  uint32_t size = sizeof(AutofsDeviceArgument);
  int32_t descriptor = -1;
  uint64_t unused = 0;
};
constexpr unsigned long kAutofsDeviceVersion = _IOWR(0x93, 0x71, AutofsDeviceArgument);

std::string own_fdinfo(const Fd& fd) {
  return read_file(AT_FDCWD, fmt::format("/proc/self/fdinfo/{}", fd.get()));
}

}  // namespace

FeatureResult mount_id() {
  Fd root = open_at(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY);
  return own_fdinfo(root).find("mnt_id:") != std::string::npos ? supported()
                                                               : missing("fdinfo has no mnt_id line");
}

FeatureResult lock_in_fdinfo() {
  Fd file(check(::memfd_create("godwit-probe", MFD_CLOEXEC), "memfd_create"));
  check(::flock(file.get(), LOCK_EX), "flock");
  return own_fdinfo(file).find("lock:") != std::string::npos ? supported()
                                                             : missing("fdinfo has no lock line");
}

FeatureResult timer_ticks() {
  Fd timer(check(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), "timerfd_create"));
  uint64_t ticks = 7;
  if (::ioctl(timer.get(), TFD_IOC_SET_TICKS, &ticks) != 0) return missing_call("TFD_IOC_SET_TICKS");
  uint64_t read_back = 0;
  read_exactly(timer.get(), writable_bytes_of(read_back), "timerfd");
  return read_back == ticks ? supported() : missing("TFD_IOC_SET_TICKS sets another number");
}

FeatureResult open_in_root() {
  Fd root = open_at(AT_FDCWD, "/proc/self", O_PATH | O_DIRECTORY);
  open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT;
  // "/status" means /proc/self/status only when the directory is taken for the root.
  Fd file(static_cast<int>(::syscall(SYS_openat2, root.get(), "/status", &how, sizeof how)));
  return file ? supported() : missing_call("openat2");
}

FeatureResult io_uring() {
  io_uring_params parameters{};
  Fd ring(static_cast<int>(::syscall(SYS_io_uring_setup, 1, &parameters)));
  return ring ? supported() : missing_call("io_uring_setup");
}

FeatureResult autofs_device() {
  Fd device(::open("/dev/autofs", O_RDONLY | O_CLOEXEC));
  if (!device) return missing_call("/dev/autofs");
  AutofsDeviceArgument argument;
  if (::ioctl(device.get(), kAutofsDeviceVersion, &argument) != 0)
    return missing_call("AUTOFS_DEV_IOCTL_VERSION");
  return supported();
}

}  // namespace godwit::kernel::probes
