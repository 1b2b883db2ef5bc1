#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "engine/tracee/remote_memory.h"

namespace godwit::tracee {

// Hands out pieces of the data part of a scratch: first fit, multiples of 64 bytes. Knows addresses only.
class ScratchPool {
 public:
  // More room.
  void add(RemoteRange room);
  // A piece of at least `size` bytes, aligned to 64; empty when no room is large enough.
  std::optional<RemoteAddress> take(uint64_t size);
  // A piece that take() gave.
  void give_back(RemoteAddress piece);

 private:
  void put_free(uint64_t start, uint64_t size);
  std::map<uint64_t, uint64_t> free_, taken_;  // start -> size
};

}  // namespace godwit::tracee
