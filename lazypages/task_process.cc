#include "lazypages/task_process.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/units.h"
#include "engine/kernel/kernel_constants.h"
#include "engine/kernel/proc_maps.h"
#include "engine/kernel/proc_task.h"

namespace godwit::lazypages {
namespace {

bool waits_there(pid_t process, uint64_t address) {
  auto smaps = read_file_if_exists(AT_FDCWD, fmt::format("/proc/{}/smaps", process));
  if (!smaps) return false;
  auto maps = kernel::parse_smaps(*smaps);
  return std::any_of(maps.begin(), maps.end(), [&](const kernel::MapsEntry& map) {
    return map.start <= address && address < map.end && (map.vm_flags & kernel::kVmUffdMissing) != 0;
  });
}

// A pidfd of this process if it is the one.
Fd open_if_it_waits(pid_t process, uint64_t address) try {
  Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, process, 0)));
  if (!pidfd || !waits_there(process, address)) return Fd();
  // What was read of /proc/PID was of the process behind the pidfd only if that has not ended.
  pollfd ended{pidfd.get(), POLLIN, 0};
  return ::poll(&ended, 1, 0) == 0 ? std::move(pidfd) : Fd();
} catch (const Error&) {
  return Fd();  // it ended while we looked
}

}  // namespace

TaskProcess find_process(pid_t pid, const MissingPages& missing) {
  auto run = missing.next(0);
  if (!run) return {};
  if (Fd found = open_if_it_waits(pid, run->address)) return {pid, std::move(found)};
  std::unique_ptr<DIR, int (*)(DIR*)> proc(::opendir("/proc"), ::closedir);
  while (const dirent* entry = proc ? ::readdir(proc.get()) : nullptr) {
    pid_t process = 0;
    const char* end = entry->d_name + std::strlen(entry->d_name);
    if (auto parsed = std::from_chars(entry->d_name, end, process); parsed.ptr != end) continue;
    auto status = kernel::read_task_status_if_alive(process, process);
    if (!status || status->namespace_pids.empty() || status->namespace_pids.back() != pid) continue;
    if (Fd found = open_if_it_waits(process, run->address)) return {process, std::move(found)};
  }
  return {};
}

bool has_page(const TaskProcess& process, uint64_t address) {
  Fd pagemap = open_at(AT_FDCWD, fmt::format("/proc/{}/pagemap", process.pid), O_RDONLY);
  uint64_t entry = 0;
  pread_exactly(pagemap.get(), writable_bytes_of(entry),
                static_cast<off_t>(address / kPageSize * sizeof entry), "pagemap");
  return (entry & (PAGEMAP_ENTRY_PRESENT | PAGEMAP_ENTRY_SWAPPED)) != 0;
}

}  // namespace godwit::lazypages
