#include "engine/tracee/scratch_place.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "engine/base/bytes.h"
#include "engine/base/error.h"

namespace godwit::tracee {
namespace {

constexpr uint64_t kLowAddress = 0x10000;          // vm.mmap_min_addr
constexpr uint64_t kHighAddress = 0x7ffffffff000;  // the end of a 47-bit address space
constexpr uint64_t kScratchLowBits = 0x60d17000;
constexpr uint64_t kScratchLowMask = 0xffffffff;
constexpr uint64_t kScratchStep = kScratchLowMask + 1;
// A stack below, a heap above: both may grow while we are there.
constexpr uint64_t kMargin = 64 * kMiB;

bool is_executable_file_mapping(const kernel::MapsEntry& entry) {
  bool file = entry.name == "[vdso]" || (!entry.name.empty() && entry.name[0] == '/');
  // What is written to a shared mapping would land in the file.
  return file && !entry.shared && (entry.protection & PROT_EXEC) != 0 && (entry.protection & PROT_WRITE) == 0;
}

RemoteAddress bootstrap_place(const kernel::MapsEntry& entry) {
  return RemoteAddress{(entry.end - bootstrap_size()) & ~uint64_t{15}};
}

enum class Ending { kEmpty, kLeftover, kInUse };

Ending look_at_ending(const RemoteMemory& memory, const kernel::MapsEntry& entry) {
  RemoteAddress place = bootstrap_place(entry);
  std::vector<std::byte> bytes(entry.end - place.value);
  if (memory.read_up_to(place, bytes) != bytes.size()) return Ending::kInUse;
  if (all_zero(bytes)) return Ending::kEmpty;
  size_t magic_at = bootstrap_size() - kScratchMagic.size();
  auto code = stub_code();
  bool ours = std::memcmp(bytes.data() + magic_at, kScratchMagic.data(), kScratchMagic.size()) == 0 &&
              std::memcmp(bytes.data(), code.data(), code.size()) == 0;
  return ours ? Ending::kLeftover : Ending::kInUse;
}

bool has_magic(const RemoteMemory& memory, RemoteAddress at) {
  std::array<uint8_t, kScratchMagic.size()> bytes{};
  return memory.read_up_to(at, std::as_writable_bytes(std::span(bytes))) == bytes.size() &&
         bytes == kScratchMagic;
}

}  // namespace

RemoteAddress find_scratch_hole(std::span<const kernel::MapsEntry> maps, uint64_t size, unsigned distance) {
  uint64_t best_start = 0, best_end = 0, free_from = kLowAddress;
  auto consider = [&](uint64_t start, uint64_t end) {
    if (end > start && end - start > best_end - best_start) {
      best_start = start;
      best_end = end;
    }
  };
  for (const auto& entry : maps) {
    if (entry.start >= kHighAddress) break;  // [vsyscall]
    consider(free_from, entry.start);
    free_from = entry.end;
  }
  consider(free_from, kHighAddress);
  uint64_t middle = best_start + (best_end - best_start) / 2;
  uint64_t address = (middle & ~kScratchLowMask) + kScratchLowBits + distance * kScratchStep;
  if (address < best_start + kMargin || address + size + kMargin > best_end) {
    throw Error("no free range of {} bytes in the address space", size);
  }
  return RemoteAddress{address};
}

uint64_t bootstrap_size() {
  return (stub_code().size() + sizeof(StubState) + sizeof(StubDescriptor) + kScratchMagic.size() + 15) / 16 *
         16;
}

std::vector<std::byte> lay_out_bootstrap(BootstrapImage image, RemoteAddress place) {
  std::vector<std::byte> bytes(bootstrap_size());
  auto code = stub_code();
  size_t call_at = code.size() + sizeof(StubState);
  image.state.descriptors = (place + call_at).value;
  image.state.count = 1;
  std::memcpy(bytes.data(), code.data(), code.size());
  std::memcpy(bytes.data() + code.size(), &image.state, sizeof image.state);
  std::memcpy(bytes.data() + call_at, &image.call, sizeof image.call);
  std::memcpy(bytes.data() + bytes.size() - kScratchMagic.size(), kScratchMagic.data(), kScratchMagic.size());
  return bytes;
}

std::optional<RemoteAddress> find_bootstrap_place(const RemoteMemory& memory,
                                                  std::span<const kernel::MapsEntry> maps) {
  for (const auto& entry : maps) {
    if (!is_executable_file_mapping(entry)) continue;
    if (look_at_ending(memory, entry) != Ending::kInUse) return bootstrap_place(entry);
  }
  return std::nullopt;
}

std::vector<RemoteAddress> find_leftover_bootstraps(const RemoteMemory& memory,
                                                    std::span<const kernel::MapsEntry> maps) {
  std::vector<RemoteAddress> places;
  for (const auto& entry : maps) {
    if (!is_executable_file_mapping(entry)) continue;
    if (look_at_ending(memory, entry) == Ending::kLeftover) places.push_back(bootstrap_place(entry));
  }
  return places;
}

// A scratch that has just been mapped is executable, all of it, and has no magic yet: its address gives it
// away. Memory that can be written is taken for ours by its magic only.
bool is_scratch(const RemoteMemory& memory, const kernel::MapsEntry& mapping) {
  constexpr int kReadExecute = PROT_READ | PROT_EXEC;
  if (!mapping.name.empty() || mapping.shared || mapping.inode != 0) return false;
  if (has_magic(memory, RemoteAddress{mapping.start})) return true;
  if (mapping.protection != kReadExecute || (mapping.start & kScratchLowMask) != kScratchLowBits)
    return false;
  std::array<std::byte, kScratchHeadSize> head;
  return memory.read_up_to(RemoteAddress{mapping.start}, head) == head.size() && all_zero(head);
}

}  // namespace godwit::tracee
