#include <fcntl.h>
#include <linux/prctl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <sstream>
#include <thread>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/base/mapping.h"
#include "engine/base/units.h"
#include "engine/kernel/feature_probes.h"
#include "engine/kernel/kernel_constants.h"

namespace godwit::kernel::probes {
namespace {

constexpr int kMadviseGuardInstall =
    102;  // MADV_GUARD_INSTALL, Linux 6.13: include/uapi/asm-generic/mman-common.h

uint64_t address_of(const std::byte* pointer) {
  return reinterpret_cast<uint64_t>(pointer);
}

void touch(std::byte* page) {
  *const_cast<volatile std::byte*>(page) = std::byte{1};
}

// Memory whose pages stay apart: no huge page may stand for them.
Mapping small_pages(size_t pages) {
  Mapping memory = Mapping::anonymous(pages * kPageSize);
  ::madvise(memory.data(), memory.size(), MADV_NOHUGEPAGE);  // EINVAL where the kernel has none
  return memory;
}

uint64_t pagemap_entry(const Fd& pagemap, const std::byte* page) {
  uint64_t entry = 0;
  auto offset = static_cast<off_t>(address_of(page) / kPageSize * sizeof entry);
  pread_exactly(pagemap.get(), writable_bytes_of(entry), offset, "/proc/self/pagemap");
  return entry;
}

FeatureResult soft_dirty_round_trip() {
  Mapping memory = small_pages(1);
  Fd pagemap = open_at(AT_FDCWD, "/proc/self/pagemap", O_RDONLY);
  touch(memory.data());
  Fd clear = open_at(AT_FDCWD, "/proc/self/clear_refs", O_WRONLY);
  write_all(clear.get(), std::as_bytes(std::span("4", 1)), "/proc/self/clear_refs");
  if (pagemap_entry(pagemap, memory.data()) & PAGEMAP_ENTRY_SOFT_DIRTY) {
    return missing("clearing the soft-dirty bits does not clear them");
  }
  touch(memory.data());
  if (pagemap_entry(pagemap, memory.data()) & PAGEMAP_ENTRY_SOFT_DIRTY) return supported();
  return missing("a write does not set the soft-dirty bit (CONFIG_MEM_SOFT_DIRTY is off)");
}

// PAGEMAP_SCAN over one mapping: its regions, or no value with errno set.
std::optional<std::vector<page_region>> scan(const Mapping& memory, uint64_t flags, uint64_t wanted) {
  Fd pagemap = open_at(AT_FDCWD, "/proc/self/pagemap", O_RDONLY);
  std::vector<page_region> regions(8);
  pm_scan_arg argument{};
  argument.size = sizeof argument;
  argument.flags = flags;
  argument.start = address_of(memory.data());
  argument.end = argument.start + memory.size();
  argument.vec = reinterpret_cast<uint64_t>(regions.data());
  argument.vec_len = regions.size();
  argument.category_mask = wanted;
  argument.return_mask = wanted;
  long count = ::ioctl(pagemap.get(), PAGEMAP_SCAN, &argument);
  if (count < 0) return std::nullopt;
  regions.resize(static_cast<size_t>(count));
  return regions;
}

// Whether the scan found exactly the page at `index`.
bool only_page(const std::vector<page_region>& regions, const Mapping& memory, size_t index) {
  uint64_t start = address_of(memory.data()) + index * kPageSize;
  return regions.size() == 1 && regions[0].start == start && regions[0].end == start + kPageSize;
}

struct UserFaults {
  Fd fd;
  FeatureResult result;  // why there is no fd
};

// A userfaultfd with these features, for faults of user code at least.
UserFaults open_userfaultfd(uint64_t features) {
  Fd fd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)));
  if (!fd)
    fd.reset(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY)));
  if (!fd) return {Fd(), missing_call("userfaultfd")};
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = features;
  if (::ioctl(fd.get(), UFFDIO_API, &api) != 0) return {Fd(), missing_call("UFFDIO_API")};
  if ((api.features & features) != features)
    return {Fd(), missing("UFFDIO_API does not grant what was asked for")};
  return {std::move(fd), supported()};
}

bool register_range(const Fd& fd, const Mapping& memory, uint64_t mode) {
  uffdio_register argument{};
  argument.range = {address_of(memory.data()), memory.size()};
  argument.mode = mode;
  return ::ioctl(fd.get(), UFFDIO_REGISTER, &argument) == 0;
}

FeatureResult set_own_mm_map() {
  // Fields of proc(5), /proc/PID/stat, counted from the state, which is number 3.
  std::string stat = read_file(AT_FDCWD, "/proc/self/stat");
  std::istringstream text(stat.substr(stat.rfind(')') + 1));
  std::vector<uint64_t> fields(3);
  std::string word;
  while (text >> word) fields.push_back(std::strtoull(word.c_str(), nullptr, 10));
  if (fields.size() < 52) return missing("/proc/self/stat is too short");
  prctl_mm_map map{};
  map.start_code = fields[26];
  map.end_code = fields[27];
  map.start_stack = fields[28];
  map.start_data = fields[45];
  map.end_data = fields[46];
  map.start_brk = fields[47];
  map.brk = reinterpret_cast<uint64_t>(::sbrk(0));
  map.arg_start = fields[48];
  map.arg_end = fields[49] - 1;  // a change that can be seen
  map.env_start = fields[50];
  map.env_end = fields[51];
  map.exe_fd = static_cast<uint32_t>(-1);
  size_t length = read_file(AT_FDCWD, "/proc/self/cmdline").size();
  if (::prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0) != 0) return missing_call("PR_SET_MM_MAP");
  if (read_file(AT_FDCWD, "/proc/self/cmdline").size() == length)
    return missing("PR_SET_MM_MAP changes nothing");
  return supported();
}

FeatureResult make_memory_fd(unsigned flags) {
  Fd fd(::memfd_create("godwit-probe", flags | MFD_CLOEXEC));
  if (!fd) return missing_call("memfd_create");
  std::string target = read_link(AT_FDCWD, fmt::format("/proc/self/fd/{}", fd.get()));
  if (!target.starts_with("/memfd:godwit-probe")) return missing("memfd_create gives " + target);
  return supported();
}

}  // namespace

FeatureResult map_files() {
  Fd file(check(::memfd_create("godwit-probe", MFD_CLOEXEC), "memfd_create"));
  check(::ftruncate(file.get(), static_cast<off_t>(kPageSize)), "ftruncate");
  Mapping memory = Mapping::of_file(file.get(), kPageSize, "memfd");
  uint64_t start = address_of(memory.data());
  Fd again =
      open_at(AT_FDCWD, fmt::format("/proc/self/map_files/{:x}-{:x}", start, start + kPageSize), O_RDONLY);
  struct stat ours {
  }, found{};
  check(::fstat(file.get(), &ours), "fstat");
  check(::fstat(again.get(), &found), "fstat");
  if (ours.st_ino != found.st_ino) return missing("/proc/self/map_files leads to another file");
  return supported();
}

FeatureResult set_mm_map() {
  return in_child(set_own_mm_map);
}

FeatureResult remote_read() {
  Mapping memory = Mapping::anonymous(kPageSize);
  memory.data()[0] = std::byte{1};
  Pipe hold = Pipe::create();
  pid_t child = check(::fork(), "fork");
  if (child == 0) {  // keeps its copy until the pipe closes
    memory.data()[0] = std::byte{2};
    ::write(hold.write_end.get(), "", 1);
    ::pause();
    ::_exit(0);
  }
  std::byte byte{};
  read_exactly(hold.read_end.get(), std::span(&byte, 1), "probe");
  iovec local{&byte, 1}, remote{memory.data(), 1};
  ssize_t count = ::process_vm_readv(child, &local, 1, &remote, 1, 0);
  FeatureResult result = count == 1 ? supported() : missing_call("process_vm_readv");
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  if (result.supported && byte != std::byte{2}) return missing("process_vm_readv gives the wrong bytes");
  return result;
}

// In a child: the bits are cleared for a whole process.
FeatureResult soft_dirty() {
  return in_child(soft_dirty_round_trip);
}

FeatureResult pagemap_scan() {
  Mapping memory = small_pages(4);
  touch(memory.data() + 2 * kPageSize);
  auto regions = scan(memory, 0, PAGE_IS_PRESENT);
  if (!regions) return missing_call("PAGEMAP_SCAN");
  return only_page(*regions, memory, 2) ? supported()
                                        : missing("PAGEMAP_SCAN finds other pages than were touched");
}

FeatureResult guard_pages() {
  Mapping memory = small_pages(4);
  if (::madvise(memory.data() + kPageSize, kPageSize, kMadviseGuardInstall) != 0) {
    return missing_call("MADV_GUARD_INSTALL");
  }
  auto regions = scan(memory, 0, PAGE_IS_GUARD);
  if (!regions) return missing_call("PAGEMAP_SCAN for guard pages");
  return only_page(*regions, memory, 1) ? supported() : missing("PAGEMAP_SCAN does not find the guard page");
}

FeatureResult userfaultfd_copy() {
  auto [fd, result] = open_userfaultfd(0);
  if (!fd) return result;
  Mapping memory = small_pages(1);
  if (!register_range(fd, memory, UFFDIO_REGISTER_MODE_MISSING)) return missing_call("UFFDIO_REGISTER");
  Mapping source = Mapping::anonymous(kPageSize);
  source.data()[17] = std::byte{42};
  uffdio_copy copy{};
  copy.dst = address_of(memory.data());
  copy.src = address_of(source.data());
  copy.len = kPageSize;
  if (::ioctl(fd.get(), UFFDIO_COPY, &copy) != 0) return missing_call("UFFDIO_COPY");
  return memory.data()[17] == std::byte{42} ? supported() : missing("UFFDIO_COPY brings other bytes");
}

FeatureResult userfaultfd_events() {
  auto [fd, result] = open_userfaultfd(UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_REMAP |
                                       UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_UNMAP);
  if (!fd) return result;
  Mapping memory = small_pages(2);
  if (!register_range(fd, memory, UFFDIO_REGISTER_MODE_MISSING)) return missing_call("UFFDIO_REGISTER");
  // The call that makes the event returns only when the event was read, or the userfaultfd closed.
  std::thread remover([&] { ::madvise(memory.data(), kPageSize, MADV_DONTNEED); });
  pollfd ready{fd.get(), POLLIN, 0};
  uffd_msg message{};
  bool arrived = ::poll(&ready, 1, 5000) == 1 && ::read(fd.get(), &message, sizeof message) == sizeof message;
  fd.reset();
  remover.join();
  if (!arrived) return missing("userfaultfd does not report that memory was removed");
  bool right = message.event == UFFD_EVENT_REMOVE && message.arg.remove.start == address_of(memory.data());
  return right ? supported() : missing("userfaultfd reports something else than what happened");
}

FeatureResult write_protect_async() {
  auto [fd, result] = open_userfaultfd(UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED);
  if (!fd) return result;
  Mapping memory = small_pages(4);
  for (size_t page = 0; page < 4; ++page) touch(memory.data() + page * kPageSize);
  if (!register_range(fd, memory, UFFDIO_REGISTER_MODE_WP)) return missing_call("UFFDIO_REGISTER");
  constexpr uint64_t kTake = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC;
  if (!scan(memory, kTake, PAGE_IS_WRITTEN)) return missing_call("PAGEMAP_SCAN with PM_SCAN_WP_MATCHING");
  touch(memory.data() + 3 * kPageSize);
  auto written = scan(memory, kTake, PAGE_IS_WRITTEN);
  if (!written) return missing_call("PAGEMAP_SCAN with PM_SCAN_WP_MATCHING");
  return only_page(*written, memory, 3) ? supported()
                                        : missing("the scan finds other pages than were written");
}

// Either way of finding written pages will do.
FeatureResult dirty_tracking() {
  FeatureResult by_bits = soft_dirty();
  if (by_bits.supported) return by_bits;
  FeatureResult by_protection = write_protect_async();
  if (by_protection.supported) return by_protection;
  return {false, by_bits.reason + "; " + by_protection.reason};
}

FeatureResult memory_fd() {
  return make_memory_fd(0);
}
FeatureResult memory_fd_hugetlb() {
  return make_memory_fd(MFD_HUGETLB);
}

}  // namespace godwit::kernel::probes
