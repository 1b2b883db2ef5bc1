#pragma once

#include <linux/userfaultfd.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/fd.h"

// userfaultfd(2), ioctl_userfaultfd(2), Documentation/admin-guide/mm/userfaultfd.rst.
namespace godwit::kernel {

// A userfaultfd whose features are agreed on. It serves the address space that it was made in, which may
// be another process's.
class Userfaultfd {
 public:
  explicit Userfaultfd(Fd fd) : fd_(std::move(fd)) {}
  // One for this process; non-blocking. Throws SystemError.
  static Userfaultfd create(uint64_t features);

  int fd() const { return fd_.get(); }

  // Faults on missing pages of this area come to us from now on. Throws SystemError.
  void register_missing(uint64_t address, uint64_t bytes);

  // How far a call came. `error` is 0 when it did all, else the errno of the page where it stopped:
  //   EAGAIN  the address space is changing: read the events that are due, then try again (also the errno of
  //           a call that came part of the way for any reason)
  //   EEXIST  there is a page already       ENOENT  no registered area, or the range spans several areas
  //   ESRCH   the address space is gone     ENOMEM  no memory, or over the limit of its cgroup
  struct Progress {
    uint64_t bytes = 0;
    int error = 0;
  };
  // Fills missing pages and wakes who waits for them.
  Progress copy(uint64_t address, std::span<const std::byte> pages) const;
  Progress zero(uint64_t address, uint64_t bytes) const;
  // Touching these missing pages is a SIGBUS from now on. EINVAL before Linux 6.6.
  Progress poison(uint64_t address, uint64_t bytes) const;
  // Lets faults in this range look again.
  void wake(uint64_t address, uint64_t bytes) const;
  // Whether the address space has ended, by the exit or execve of all that shared it.
  bool is_gone() const;

  // Reads what is due, without waiting: faults come before other events that happened earlier, so look at
  // the events first. Throws SystemError.
  size_t read(std::span<uffd_msg> messages) const;

 private:
  Fd fd_;
};

}  // namespace godwit::kernel
