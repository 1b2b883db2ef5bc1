#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/base/units.h"
#include "engine/kernel/proc_maps.h"
#include "engine/tracee/remote_memory.h"
#include "engine/tracee/stub.h"

// Where our things go in the address space of a running program, and how they are known again after the
// tracer that put them there has died.
namespace godwit::tracee {

// The scratch: a code part of one page per slot, readable and executable, and a data part, readable and
// writable. Both parts of an area begin with kScratchMagic: the first page of the code part holds nothing
// else.
inline constexpr uint64_t kCodeSlots = 15;
inline constexpr uint64_t kScratchCodeSize = (1 + kCodeSlots) * kPageSize;
inline constexpr uint64_t kScratchDataSize = 64 * kPageSize;
inline constexpr uint64_t kScratchHeadSize = 64;  // the magic, rounded up, at the front of a part

// Random bytes; the last one is a version of the layout.
inline constexpr std::array<uint8_t, 16> kScratchMagic{0xd1, 0x7a, 0x6f, 0x64, 0x9b, 0x33, 0xe8, 0x05,
                                                       0xb2, 0x4c, 0x91, 0xfe, 0x26, 0x70, 0xc3, 0x01};

// A free address range of `size` bytes for a scratch area, far from everything that grows; its lower 32 bits
// are always the same, by which an area is known that has not got its magic yet. `distance` (0, 1, ...) asks
// for another one.
RemoteAddress find_scratch_hole(std::span<const kernel::MapsEntry> maps, uint64_t size, unsigned distance);

// The first code that runs in a program has to be put into a mapping that it has already: behind the last
// byte of code in an executable mapping, where the page is filled with zeros. It is put at the very end of
// the page: code, state, one descriptor, and kScratchMagic.
struct BootstrapImage {
  StubState state;
  StubDescriptor call;
};
uint64_t bootstrap_size();
// Lays it out for `place`; the state's descriptor address is filled in here.
std::vector<std::byte> lay_out_bootstrap(BootstrapImage image, RemoteAddress place);

// A place for it that is empty, or holds what a dead tracer left. Empty when the program has none.
std::optional<RemoteAddress> find_bootstrap_place(const RemoteMemory& memory,
                                                  std::span<const kernel::MapsEntry> maps);
// Places that hold what a dead tracer left.
std::vector<RemoteAddress> find_leftover_bootstraps(const RemoteMemory& memory,
                                                    std::span<const kernel::MapsEntry> maps);

// Whether a mapping is (a part of) a scratch, ours or one that a dead tracer left: a dump never dumps it.
bool is_scratch(const RemoteMemory& memory, const kernel::MapsEntry& mapping);

}  // namespace godwit::tracee
