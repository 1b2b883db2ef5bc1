#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// /proc/PID/maps and /proc/PID/smaps as structures. Source: Documentation/filesystems/proc.rst.
namespace godwit::kernel {

// The two-letter codes of the VmFlags line that godwit looks at.
enum VmFlag : uint32_t {
  kVmGrowsDown = 1u << 0,          // gd
  kVmLocked = 1u << 1,             // lo
  kVmIo = 1u << 2,                 // io
  kVmPfnMap = 1u << 3,             // pf
  kVmDontFork = 1u << 4,           // dc
  kVmDontDump = 1u << 5,           // dd
  kVmHugePage = 1u << 6,           // hg
  kVmNoHugePage = 1u << 7,         // nh
  kVmMergeable = 1u << 8,          // mg
  kVmSequential = 1u << 9,         // sr
  kVmRandom = 1u << 10,            // rr
  kVmHugeTlb = 1u << 11,           // ht
  kVmNoReserve = 1u << 12,         // nr
  kVmWipeOnFork = 1u << 13,        // wf
  kVmUffdMissing = 1u << 14,       // um
  kVmUffdWriteProtect = 1u << 15,  // uw
  kVmSealed = 1u << 16,            // sl
  kVmDroppable = 1u << 17,         // dp
  kVmShadowStack = 1u << 18,       // ss
  kVmAccountable = 1u << 19,       // ac
  kVmMayShare = 1u << 20,          // ms
};

struct MapsEntry {
  uint64_t start = 0, end = 0;  // bytes
  int protection = 0;           // PROT_*
  bool shared = false;          // VM_SHARED or VM_MAYSHARE: the "s" of maps
  uint64_t offset = 0;          // bytes into the file
  uint32_t device_major = 0, device_minor = 0;
  uint64_t inode = 0;
  std::string name;       // path, "[heap]", or empty
  uint32_t vm_flags = 0;  // VmFlag bits; 0 when read from maps

  uint64_t size() const { return end - start; }
  bool operator==(const MapsEntry&) const = default;
};

// Both throw FormatError with the offending line.
std::vector<MapsEntry> parse_maps(std::string_view text);
std::vector<MapsEntry> parse_smaps(std::string_view text);

}  // namespace godwit::kernel
