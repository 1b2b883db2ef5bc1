#include "engine/memory/address_space.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <cstring>

#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/memory/vma.h"
#include "engine/tracee/remote_caller.h"

namespace godwit::memory {
namespace {

// Without the AT_NULL pair at its end, which the kernel adds by itself: with it the vector of today's kernels
// is longer than the 44 words that CRIU accepts.
void collect_auxv(pid_t pid, pb::mm_entry& mm) {
  std::string auxv = read_file(AT_FDCWD, fmt::format("/proc/{}/auxv", pid));
  std::vector<uint64_t> words(auxv.size() / sizeof(uint64_t));
  std::memcpy(words.data(), auxv.data(), words.size() * sizeof(uint64_t));
  while (words.size() >= 2 && words[words.size() - 2] == AT_NULL) words.resize(words.size() - 2);
  mm.mutable_mm_saved_auxv()->Assign(words.begin(), words.end());
}

void collect_layout(const kernel::TaskStat& stat, pb::mm_entry& mm) {
  mm.set_mm_start_code(stat.start_code);
  mm.set_mm_end_code(stat.end_code);
  mm.set_mm_start_data(stat.start_data);
  mm.set_mm_end_data(stat.end_data);
  mm.set_mm_start_stack(stat.start_stack);
  mm.set_mm_start_brk(stat.start_brk);
  mm.set_mm_arg_start(stat.arg_start);
  mm.set_mm_arg_end(stat.arg_end);
  mm.set_mm_env_start(stat.env_start);
  mm.set_mm_env_end(stat.env_end);
}

// A shared mapping needs the file open for writing when it is, or may become, writable. Which it may is not
// shown anywhere, so what can be opened so is.
uint32_t open_flags(const kernel::MapsEntry& map) {
  return map.shared && (map.protection & PROT_WRITE) != 0 ? O_RDWR : O_RDONLY;
}

void collect_file(pid_t pid, const kernel::MapsEntry& map, files::FileCollector& files, pb::vma_entry& vma) {
  uint32_t flags = open_flags(map);
  vma.set_shmid(
      files.add_path_file(fmt::format("/proc/{}/map_files/{:x}-{:x}", pid, map.start, map.end), flags));
  vma.set_fdflags(flags);
}

// The kernel keeps parts of [vvar] in mappings of their own; images know one.
bool joins_previous(const kernel::MapsEntry& map, const pb::mm_entry& mm) {
  return map.name.starts_with("[vvar") && mm.vmas_size() > 0 &&
         has_status(mm.vmas(mm.vmas_size() - 1), kVmaVvar) && mm.vmas(mm.vmas_size() - 1).end() == map.start;
}

}  // namespace

pb::mm_entry collect_address_space(pid_t pid, const kernel::TaskStat& stat, files::FileCollector& files) {
  pb::mm_entry mm;
  collect_layout(stat, mm);
  collect_auxv(pid, mm);
  mm.set_exe_file_id(files.add_path_file(fmt::format("/proc/{}/exe", pid), O_RDONLY));
  tracee::RemoteMemory remote(pid);
  for (const auto& map : kernel::parse_smaps(read_file(AT_FDCWD, fmt::format("/proc/{}/smaps", pid)))) {
    if (tracee::is_scratch(remote, map)) continue;
    if (joins_previous(map, mm)) {
      mm.mutable_vmas(mm.vmas_size() - 1)->set_end(map.end);
      continue;
    }
    kinds::Problems of_area;
    auto vma = classify(map, of_area);
    for (const auto& text : of_area.texts()) files.problems().add("pid {}: {}", pid, text);
    if (of_area.texts().empty() && has_status(vma, kVmaFilePrivate | kVmaFileShared)) {
      collect_file(pid, map, files, vma);
    }
    *mm.add_vmas() = std::move(vma);
  }
  return mm;
}

std::function<void(const tracee::BatchResults&, pb::mm_entry&)> ask_address_space(tracee::Batch& batch) {
  auto brk = batch.call(SYS_brk, {0});
  auto dumpable = batch.call(SYS_prctl, {PR_GET_DUMPABLE, 0, 0, 0, 0});
  auto thp_disabled = batch.call(SYS_prctl, {PR_GET_THP_DISABLE, 0, 0, 0, 0}, tracee::OnFailure::kContinue);
  return [=](const tracee::BatchResults& results, pb::mm_entry& mm) {
    mm.set_mm_brk(static_cast<uint64_t>(results.value(brk)));
    mm.set_dumpable(static_cast<int32_t>(results.value(dumpable)));
    if (results.value(thp_disabled) > 0) mm.set_thp_disabled(true);
  };
}

}  // namespace godwit::memory
