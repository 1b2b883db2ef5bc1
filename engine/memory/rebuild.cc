#include "engine/memory/rebuild.h"

#include <linux/prctl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "engine/base/error.h"
#include "engine/base/units.h"
#include "engine/memory/vma.h"

namespace godwit::memory {
namespace {

using tracee::Batch;

// Of one batch; its descriptors must fit into the scratch beside its data.
constexpr size_t kCallsPerBatch = 400;
constexpr size_t kVectorsPerRead = 256;
// Small enough that the pages which populating has just cleared are still in the cache when they are read
// into.
constexpr uint64_t kBytesPerRead = 8 * kMiB;
// From this size on a fault for each page costs more than one madvise(2).
constexpr uint64_t kLeastPopulated = 64 * kKiB;

const pb::vma_entry* find_area(const pb::mm_entry& mm, uint32_t status) {
  for (const auto& vma : mm.vmas()) {
    if (has_status(vma, status)) return &vma;
  }
  return nullptr;
}

bool is_kernels(const pb::vma_entry& vma) {
  return has_status(vma, kVmaVdso | kVmaVvar | kVmaVsyscall);
}

bool holds_pages(const pb::vma_entry& vma, const images::PagemapChain& pages) {
  auto ends_before = [](const images::PageSegment& segment, uint64_t address) {
    return segment.address + segment.pages * kPageSize <= address;
  };
  const auto& segments = pages.segments();
  auto at = std::lower_bound(segments.begin(), segments.end(), vma.start(), ends_before);
  return at != segments.end() && at->address < vma.end();
}

// Protection while the area is filled. One that is not written to is never writable: the kernel would charge
// it for good (VM_ACCOUNT), refuse large reservations, and merge neighbours that were apart.
int filling_protection(const pb::vma_entry& vma, const images::PagemapChain& pages) {
  int wanted = static_cast<int>(vma.prot());
  return has_private_pages(vma) && holds_pages(vma, pages) ? wanted | PROT_READ | PROT_WRITE : wanted;
}

// Whether this kernel's vdso is, byte for byte, the one the task was dumped with.
bool same_vdso(const pb::vma_entry& vdso, const images::PagemapChain& pages) {
  const auto* own = reinterpret_cast<const std::byte*>(::getauxval(AT_SYSINFO_EHDR));
  std::vector<std::byte> page(kPageSize), zeros(kPageSize);
  for (uint64_t at = vdso.start(); at < vdso.end(); at += kPageSize) {
    const auto* segment = pages.find(at);
    bool present = segment != nullptr && segment->source == images::PageSegment::Source::kPresent;
    if (present) {
      pread_exactly(pages.fd(segment->file), page,
                    static_cast<off_t>(segment->offset + (at - segment->address)), "vdso page");
    }
    if (std::memcmp(own + (at - vdso.start()), present ? page.data() : zeros.data(), kPageSize) != 0)
      return false;
  }
  return true;
}

// Collects calls into batches of bounded size; each opens and closes what it needs of ours.
class BatchList {
 public:
  // A batch with room for a few more calls.
  Batch& next() {
    if (batches_.empty() || batches_.back().size() >= kCallsPerBatch) {
      close_coordinator();
      batches_.emplace_back();
    }
    return batches_.back();
  }
  // Our pidfd in the task, for the batch that next() gave.
  Batch::Result coordinator() {
    if (!coordinator_) coordinator_ = files::FileOpener::add_coordinator(batches_.back());
    return *coordinator_;
  }
  std::vector<Batch> take() {
    close_coordinator();
    return std::move(batches_);
  }

 private:
  void close_coordinator() {
    if (coordinator_) batches_.back().call(SYS_close, {*coordinator_});
    coordinator_.reset();
  }
  std::vector<Batch> batches_;
  std::optional<Batch::Result> coordinator_;
};

// Advice that must stand before the area is filled (huge pages), and the rest with it.
void advise(const pb::vma_entry& vma, Batch& batch) {
  for (int advice = 0; advice < 64; ++advice) {
    if ((vma.madv() >> advice & 1) != 0) {
      batch.call(SYS_madvise, {vma.start(), vma.end() - vma.start(), advice});
    }
  }
}

void map_area(const pb::vma_entry& vma, const images::PagemapChain& pages, files::FileOpener& files,
              BatchList& list) {
  int protection = filling_protection(vma, pages);
  Batch& batch = list.next();
  uint32_t flags = vma.flags() & (MAP_SHARED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_NORESERVE);
  flags |= MAP_FIXED_NOREPLACE;
  uint64_t size = vma.end() - vma.start();
  if (has_status(vma, kVmaFilePrivate | kVmaFileShared)) {
    auto fd = files.add_get(batch, list.coordinator(), static_cast<uint32_t>(vma.shmid()));
    batch.call(SYS_mmap, {vma.start(), size, protection, flags, fd, vma.pgoff()});
    batch.call(SYS_close, {fd});
  } else {
    batch.call(SYS_mmap, {vma.start(), size, protection, flags | MAP_ANONYMOUS, -1, 0});
  }
  if (vma.has_madv()) advise(vma, batch);
}

// Moves a mapping of the seed.
void move(uint64_t from, uint64_t size, uint64_t to, Batch& batch) {
  batch.call(SYS_mremap, {from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to});
}

bool overlaps(uint64_t start, uint64_t end, uint64_t other_start, uint64_t other_end) {
  return start < other_end && other_start < end;
}

}  // namespace

void plan_address_space(pid_t pid, const pb::mm_entry& mm, const images::PagemapChain& pages, bool lazy,
                        kinds::Problems& problems) {
  constexpr uint32_t kKnown = kVmaRegular | kVmaStack | kVmaVsyscall | kVmaVdso | kVmaHeap | kVmaFilePrivate |
                              kVmaFileShared | kVmaAnonPrivate | kVmaVvar;
  for (const auto& vma : mm.vmas()) {
    if ((vma.status() & ~kKnown) != 0) {
      problems.add("pid {}: area {:x}-{:x} is of a kind ({:#x}) that is not available yet", pid, vma.start(),
                   vma.end(), vma.status() & ~kKnown);
    }
  }
  const pb::vma_entry* vdso = find_area(mm, kVmaVdso);
  if (vdso != nullptr && !same_vdso(*vdso, pages)) {
    problems.add("pid {}: it was dumped under another kernel build (its vdso differs): not available yet",
                 pid);
  }
  auto area = mm.vmas().begin();
  for (const auto& segment : pages.segments()) {
    uint64_t end = segment.address + segment.pages * kPageSize;
    while (area != mm.vmas().end() && area->end() <= segment.address) ++area;
    uint64_t covered = segment.address;
    for (auto within = area; covered < end; covered = within->end(), ++within) {
      if (within == mm.vmas().end() || within->start() > covered || !has_private_pages(*within)) {
        problems.add("pid {}: pages at {:#x} belong to no area", pid, covered);
        break;
      }
    }
    if (segment.source == images::PageSegment::Source::kLazy && !lazy) {
      problems.add("pid {}: its memory was left behind by dump --lazy-pages: restore it with --lazy-pages",
                   pid);
      return;
    }
  }
}

uint64_t find_hole(const std::vector<const pb::mm_entry*>& layouts,
                   const std::vector<kernel::MapsEntry>& seed, uint64_t size) {
  constexpr uint64_t kLowest = uint64_t{4} * kGiB, kHighest = uint64_t{1} << 46;
  std::vector<std::pair<uint64_t, uint64_t>> taken;
  for (const auto* mm : layouts) {
    for (const auto& vma : mm->vmas()) taken.emplace_back(vma.start(), vma.end());
  }
  for (const auto& map : seed) taken.emplace_back(map.start, map.end);
  std::sort(taken.begin(), taken.end());
  uint64_t at = kLowest;
  for (auto [start, end] : taken) {
    if (end <= at) continue;
    // A page to spare on both sides keeps the neighbours from merging with the scratch.
    if (start >= at + size + 2 * kPageSize) break;
    at = end;
  }
  if (at + size > kHighest) throw Error("there is no hole of {} bytes in the tasks' address spaces", size);
  return at + kPageSize;
}

std::vector<Batch> clear_seed(const pb::mm_entry& mm, const std::vector<kernel::MapsEntry>& seed,
                              uint64_t scratch, uint64_t scratch_size, uint64_t parking) {
  Batch park, place;
  const pb::vma_entry* vvar = find_area(mm, kVmaVvar);
  const pb::vma_entry* vdso = find_area(mm, kVmaVdso);
  uint64_t first_vvar = 0;
  for (const auto& map : seed) {
    if (map.name == "[vsyscall]" || overlaps(map.start, map.end, scratch, scratch + scratch_size)) continue;
    bool is_vvar = map.name.starts_with("[vvar"), is_vdso = map.name == "[vdso]";
    if ((is_vvar && vvar == nullptr) || (is_vdso && vdso == nullptr) || (!is_vvar && !is_vdso)) {
      park.call(SYS_munmap, {map.start, map.size()});
      continue;
    }
    if (is_vvar && first_vvar == 0) first_vvar = map.start;
    // The kernel keeps the data before the code; both are parked first, for the old and the new place may
    // overlap. The parts of vvar move one by one and keep their distances.
    uint64_t target = is_vdso ? vdso->start() : vvar->start() + (map.start - first_vvar);
    move(map.start, map.size(), parking, park);
    move(parking, map.size(), target, place);
    parking += map.size();
  }
  std::vector<Batch> batches;
  if (!park.empty()) batches.push_back(std::move(park));
  if (!place.empty()) batches.push_back(std::move(place));
  return batches;
}

std::vector<Batch> map_areas(const pb::mm_entry& mm, const images::PagemapChain& pages,
                             files::FileOpener& files) {
  BatchList list;
  // Inherited from us otherwise; it decides what the filling allocates.
  list.next().call(SYS_prctl, {PR_SET_THP_DISABLE, mm.thp_disabled() ? 1 : 0, 0, 0, 0});
  for (const auto& vma : mm.vmas()) {
    if (!is_kernels(vma)) map_area(vma, pages, files, list);
  }
  return list.take();
}

void FillBatch::check(const tracee::BatchResults& results) const {
  for (auto [result, bytes] : expected) {
    int64_t got = results.check(result, "preadv of a pages file");
    if (static_cast<uint64_t>(got) != bytes) throw Error("a pages file gave {} of {} bytes", got, bytes);
  }
}

std::vector<FillBatch> fill_pages(const pb::mm_entry& mm, const images::PagemapChain& pages) {
  const pb::vma_entry* vdso = find_area(mm, kVmaVdso);
  std::vector<FillBatch> fills;
  std::vector<iovec> vectors;
  uint32_t file = 0;
  uint64_t offset = 0, bytes = 0;
  auto flush = [&] {
    if (vectors.empty()) return;
    FillBatch& fill = fills.emplace_back();
    auto ours = files::FileOpener::add_coordinator(fill.batch);
    auto fd = fill.batch.call(SYS_pidfd_getfd, {ours, pages.fd(file), 0});
    auto data = fill.batch.put(std::as_bytes(std::span(vectors)));
    // Only saves time, and is unknown before Linux 5.14: its result does not matter.
    for (const auto& vector : vectors) {
      if (vector.iov_len < kLeastPopulated) continue;
      fill.batch.call(SYS_madvise,
                      {reinterpret_cast<uint64_t>(vector.iov_base), vector.iov_len, MADV_POPULATE_WRITE},
                      tracee::OnFailure::kContinue);
    }
    auto read = fill.batch.call(SYS_preadv, {fd, data, vectors.size(), offset, 0});
    fill.batch.call(SYS_close, {fd});
    fill.batch.call(SYS_close, {ours});
    fill.expected.emplace_back(read, bytes);
    vectors.clear();
    bytes = 0;
  };
  for (const auto& segment : pages.segments()) {
    if (segment.source != images::PageSegment::Source::kPresent) continue;
    if (vdso != nullptr && overlaps(segment.address, segment.address + 1, vdso->start(), vdso->end()))
      continue;
    for (uint64_t done = 0; done < segment.pages * kPageSize;) {
      uint64_t from = segment.offset + done;
      if (vectors.size() >= kVectorsPerRead || bytes >= kBytesPerRead ||
          (!vectors.empty() && (segment.file != file || from != offset + bytes))) {
        flush();
      }
      if (vectors.empty()) {
        file = segment.file;
        offset = from;
      }
      uint64_t size = std::min(segment.pages * kPageSize - done, kBytesPerRead - bytes);
      vectors.push_back({reinterpret_cast<void*>(segment.address + done), size});
      bytes += size;
      done += size;
    }
  }
  flush();
  return fills;
}

std::vector<Batch> finish_address_space(const pb::mm_entry& mm, const images::PagemapChain& pages,
                                        files::FileOpener& files) {
  BatchList list;
  for (const auto& vma : mm.vmas()) {
    if (is_kernels(vma)) continue;
    uint64_t size = vma.end() - vma.start();
    if (filling_protection(vma, pages) != static_cast<int>(vma.prot())) {
      list.next().call(SYS_mprotect, {vma.start(), size, vma.prot()});
    }
    if ((vma.flags() & MAP_LOCKED) != 0) list.next().call(SYS_mlock, {vma.start(), size});
  }
  Batch& batch = list.next();
  prctl_mm_map map{};
  map.start_code = mm.mm_start_code();
  map.end_code = mm.mm_end_code();
  map.start_data = mm.mm_start_data();
  map.end_data = mm.mm_end_data();
  map.start_brk = mm.mm_start_brk();
  map.brk = mm.mm_brk();
  map.start_stack = mm.mm_start_stack();
  map.arg_start = mm.mm_arg_start();
  map.arg_end = mm.mm_arg_end();
  map.env_start = mm.mm_env_start();
  map.env_end = mm.mm_env_end();
  map.auxv_size = static_cast<uint32_t>(static_cast<size_t>(mm.mm_saved_auxv_size()) * sizeof(uint64_t));
  auto auxv = batch.put(
      std::as_bytes(std::span(mm.mm_saved_auxv().data(), static_cast<size_t>(mm.mm_saved_auxv_size()))));
  auto exe = files.add_get(batch, list.coordinator(), mm.exe_file_id());
  auto data = batch.put_in_out_object(map);
  batch.patch(data, offsetof(prctl_mm_map, auxv), auxv);
  batch.store32(exe, data, offsetof(prctl_mm_map, exe_fd));
  batch.call(SYS_prctl, {PR_SET_MM, PR_SET_MM_MAP, data, sizeof map, 0});
  batch.call(SYS_close, {exe});
  return list.take();
}

}  // namespace godwit::memory
