#include "engine/memory/vma.h"

#include <sys/mman.h>

#include <array>
#include <string_view>
#include <utility>

namespace godwit::memory {
namespace {

// What stands behind a mapping that this engine does not bring back, by how its name begins.
constexpr std::array<std::pair<std::string_view, std::string_view>, 9> kRefusedNames{{
    {"/dev/zero (deleted)", "shared anonymous memory: not available yet"},
    {"/memfd:", "a memfd: not available yet"},
    {"/SYSV", "SysV shared memory: not available yet"},
    {"/anon_hugepage", "huge pages: not available yet"},
    {"/[aio]", "an AIO ring: not available yet"},
    {"anon_inode:[io_uring]", "an io_uring: cannot be dumped"},
    {"anon_inode:[perf_event]", "a perf event buffer: cannot be dumped"},
    {"/secretmem", "memfd_secret memory: no one else can read it"},
    {"socket:[", "a packet socket's ring: not available yet"},
}};

constexpr std::array<std::pair<uint32_t, int>, 7> kAdvice{{
    {kernel::kVmDontFork, MADV_DONTFORK},
    {kernel::kVmDontDump, MADV_DONTDUMP},
    {kernel::kVmHugePage, MADV_HUGEPAGE},
    {kernel::kVmNoHugePage, MADV_NOHUGEPAGE},
    {kernel::kVmMergeable, MADV_MERGEABLE},
    {kernel::kVmSequential, MADV_SEQUENTIAL},
    {kernel::kVmRandom, MADV_RANDOM},
}};

uint64_t advice_bits(uint32_t vm_flags) {
  uint64_t bits = 0;
  for (auto [flag, advice] : kAdvice) {
    if ((vm_flags & flag) != 0) bits |= uint64_t{1} << advice;
  }
  if ((vm_flags & kernel::kVmWipeOnFork) != 0) bits |= uint64_t{1} << MADV_WIPEONFORK;
  return bits;
}

// Why a mapping cannot be dumped, or nothing.
std::string_view refusal(const kernel::MapsEntry& map) {
  for (auto [prefix, why] : kRefusedNames) {
    if (map.name.starts_with(prefix)) return why;
  }
  if (map.name == "[uprobes]") return "a uprobes area: --allow-uprobes is not available yet";
  if ((map.vm_flags & kernel::kVmHugeTlb) != 0) return "huge pages: not available yet";
  if ((map.vm_flags & kernel::kVmShadowStack) != 0) return "a shadow stack: not available yet";
  if ((map.vm_flags & kernel::kVmDroppable) != 0) return "droppable memory: not available yet";
  if ((map.vm_flags & kernel::kVmSealed) != 0 && map.name.empty()) return "sealed memory: not available yet";
  if (map.name.starts_with("/dev/") && (map.vm_flags & (kernel::kVmIo | kernel::kVmPfnMap)) != 0) {
    return "a device's memory: cannot be dumped";
  }
  if (map.shared && map.inode == 0) return "shared memory of an unknown kind";
  return "";
}

uint32_t status_of(const kernel::MapsEntry& map) {
  if (map.name == "[vsyscall]") return kVmaVsyscall;
  if (map.name == "[vdso]") return kVmaRegular | kVmaVdso | kVmaAnonPrivate;
  if (map.name.starts_with("[vvar")) return kVmaRegular | kVmaVvar | kVmaAnonPrivate;
  if (maps_file(map)) return kVmaRegular | (map.shared ? kVmaFileShared : kVmaFilePrivate);
  return kVmaRegular | kVmaAnonPrivate | (map.name == "[heap]" ? uint32_t{kVmaHeap} : 0u);
}

}  // namespace

bool maps_file(const kernel::MapsEntry& map) {
  return map.inode != 0;
}

bool has_private_pages(const pb::vma_entry& vma) {
  // The code of the vdso travels too: a restore under another kernel compares it, and keeps it where it
  // differs.
  return has_status(vma, kVmaAnonPrivate | kVmaFilePrivate) && !has_status(vma, kVmaVvar | kVmaVsyscall);
}

bool may_be_lazy(const pb::vma_entry& vma) {
  return has_status(vma, kVmaAnonPrivate) && !has_status(vma, kVmaVdso | kVmaVvar | kVmaVsyscall) &&
         (vma.flags() & MAP_LOCKED) == 0;
}

pb::vma_entry classify(const kernel::MapsEntry& map, kinds::Problems& problems) {
  if (auto why = refusal(map); !why.empty())
    problems.add("mapping {:x}-{:x} {}: {}", map.start, map.end, map.name, why);
  pb::vma_entry vma;
  vma.set_start(map.start);
  vma.set_end(map.end);
  vma.set_pgoff(map.offset);
  vma.set_shmid(0);
  vma.set_prot(static_cast<uint32_t>(map.protection));
  uint32_t flags = map.shared ? MAP_SHARED : MAP_PRIVATE;
  if (!maps_file(map)) flags |= MAP_ANONYMOUS;
  if ((map.vm_flags & kernel::kVmGrowsDown) != 0) flags |= MAP_GROWSDOWN;
  if ((map.vm_flags & kernel::kVmLocked) != 0) flags |= MAP_LOCKED;
  if ((map.vm_flags & kernel::kVmNoReserve) != 0) flags |= MAP_NORESERVE;
  vma.set_flags(flags);
  vma.set_status(status_of(map));
  vma.set_fd(-1);
  if (uint64_t advice = advice_bits(map.vm_flags); advice != 0) vma.set_madv(advice);
  return vma;
}

}  // namespace godwit::memory
