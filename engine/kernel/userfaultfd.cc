#include "engine/kernel/userfaultfd.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/error.h"
#include "engine/base/units.h"

// Linux 6.6, include/uapi/linux/userfaultfd.h; Debian 12's headers lack it.
#ifndef UFFDIO_POISON
struct uffdio_poison {
  struct uffdio_range range;
  uint64_t mode;
  int64_t updated;  // out: bytes, or a negative errno
};
#define _UFFDIO_POISON (0x08)
#define UFFDIO_POISON _IOWR(UFFDIO, _UFFDIO_POISON, struct uffdio_poison)
#endif

namespace godwit::kernel {
namespace {

// The last page that user space can have. Nobody registers it, so asking for a zero page there changes
// nothing and only tells whether the address space is alive.
constexpr uint64_t kLastPage = 0x7fff'ffff'e000;

Userfaultfd::Progress progress_of(int result, int64_t done) {
  int error = result == 0 ? 0 : errno;
  return {done > 0 ? static_cast<uint64_t>(done) : 0, error};
}

}  // namespace

Userfaultfd Userfaultfd::create(uint64_t features) {
  Fd fd(check(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)), "userfaultfd"));
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = features;
  check(::ioctl(fd.get(), UFFDIO_API, &api), "UFFDIO_API({:#x})", features);
  return Userfaultfd(std::move(fd));
}

void Userfaultfd::register_missing(uint64_t address, uint64_t bytes) {
  uffdio_register argument{};
  argument.range = {address, bytes};
  argument.mode = UFFDIO_REGISTER_MODE_MISSING;
  check(::ioctl(fd(), UFFDIO_REGISTER, &argument), "UFFDIO_REGISTER({:#x} + {:#x})", address, bytes);
}

Userfaultfd::Progress Userfaultfd::copy(uint64_t address, std::span<const std::byte> pages) const {
  uffdio_copy argument{};
  argument.dst = address;
  argument.src = reinterpret_cast<uint64_t>(pages.data());
  argument.len = pages.size();
  int result = ::ioctl(fd(), UFFDIO_COPY, &argument);
  return progress_of(result, argument.copy);
}

Userfaultfd::Progress Userfaultfd::zero(uint64_t address, uint64_t bytes) const {
  uffdio_zeropage argument{};
  argument.range = {address, bytes};
  int result = ::ioctl(fd(), UFFDIO_ZEROPAGE, &argument);
  return progress_of(result, argument.zeropage);
}

Userfaultfd::Progress Userfaultfd::poison(uint64_t address, uint64_t bytes) const {
  uffdio_poison argument{};
  argument.range = {address, bytes};
  int result = ::ioctl(fd(), UFFDIO_POISON, &argument);
  return progress_of(result, argument.updated);
}

void Userfaultfd::wake(uint64_t address, uint64_t bytes) const {
  uffdio_range range{address, bytes};
  ::ioctl(fd(), UFFDIO_WAKE, &range);  // can only fail for a range that cannot be
}

bool Userfaultfd::is_gone() const {
  return zero(kLastPage, kPageSize).error == ESRCH;
}

size_t Userfaultfd::read(std::span<uffd_msg> messages) const {
  ssize_t size = ::read(fd(), messages.data(), messages.size_bytes());
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  return static_cast<size_t>(check(size, "read(userfaultfd)")) / sizeof(uffd_msg);
}

}  // namespace godwit::kernel
