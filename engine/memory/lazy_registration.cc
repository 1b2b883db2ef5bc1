#include "engine/memory/lazy_registration.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>

#include "engine/base/error.h"
#include "engine/memory/vma.h"

namespace godwit::memory {
namespace {

bool has_missing_pages(const pb::vma_entry& vma, const images::PagemapChain& pages) {
  const auto& segments = pages.segments();
  auto at = std::partition_point(segments.begin(), segments.end(), [&](const auto& segment) {
    return segment.address + segment.pages * 4096 <= vma.start();
  });
  for (; at != segments.end() && at->address < vma.end(); ++at) {
    if (at->source == images::PageSegment::Source::kLazy) return true;
  }
  return false;
}

// The task makes the userfaultfd, for it belongs to the address space of its maker; we take a duplicate and
// it closes its own.
Fd create_in_task(tracee::RemoteCaller& caller, tracee::Tracee& leader) {
  tracee::Batch open;
  auto created = open.call(SYS_userfaultfd, {O_CLOEXEC | O_NONBLOCK});
  auto results = caller.run(leader, open);
  int64_t number = results.check(created, "userfaultfd");
  Fd pidfd(
      check(static_cast<int>(::syscall(SYS_pidfd_open, leader.pid(), 0)), "pidfd_open({})", leader.pid()));
  Fd ours(check(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd.get(), number, 0)), "pidfd_getfd"));
  tracee::Batch close;
  close.call(SYS_close, {number});
  caller.run(leader, close).check_all("close of the userfaultfd");
  return ours;
}

}  // namespace

std::optional<Fd> register_lazy_areas(tracee::RemoteCaller& caller, tracee::Tracee& leader,
                                      const pb::mm_entry& mm, const images::PagemapChain& pages) {
  Fd userfaultfd;
  for (const auto& vma : mm.vmas()) {
    if (!may_be_lazy(vma) || !has_missing_pages(vma, pages)) continue;
    if (!userfaultfd) {
      userfaultfd = create_in_task(caller, leader);
      uffdio_api api{};
      api.api = UFFD_API;
      api.features = UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP | UFFD_FEATURE_EVENT_REMOVE |
                     UFFD_FEATURE_EVENT_UNMAP;
      check(::ioctl(userfaultfd.get(), UFFDIO_API, &api), "UFFDIO_API");
    }
    uffdio_register range{};
    range.range = {vma.start(), vma.end() - vma.start()};
    range.mode = UFFDIO_REGISTER_MODE_MISSING;
    check(::ioctl(userfaultfd.get(), UFFDIO_REGISTER, &range), "UFFDIO_REGISTER({:x}-{:x})", vma.start(),
          vma.end());
  }
  if (!userfaultfd) return std::nullopt;
  return userfaultfd;
}

}  // namespace godwit::memory
