#include "engine/tracee/scratch_pool.h"

#include <algorithm>

namespace godwit::tracee {
namespace {

constexpr uint64_t kGrain = 64;

}  // namespace

void ScratchPool::add(RemoteRange room) {
  put_free(room.start.value, room.size / kGrain * kGrain);
}

std::optional<RemoteAddress> ScratchPool::take(uint64_t size) {
  uint64_t rounded = std::max(kGrain, (size + kGrain - 1) / kGrain * kGrain);
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    auto [start, room] = *it;
    if (room < rounded) continue;
    free_.erase(it);
    if (room > rounded) free_[start + rounded] = room - rounded;
    taken_[start] = rounded;
    return RemoteAddress{start};
  }
  return std::nullopt;
}

void ScratchPool::give_back(RemoteAddress piece) {
  auto it = taken_.find(piece.value);
  if (it == taken_.end()) return;
  auto [start, size] = *it;
  taken_.erase(it);
  put_free(start, size);
}

void ScratchPool::put_free(uint64_t start, uint64_t size) {
  auto after = free_.lower_bound(start);
  if (after != free_.end() && after->first == start + size) {
    size += after->second;
    after = free_.erase(after);
  }
  if (after != free_.begin()) {
    auto before = std::prev(after);
    if (before->first + before->second == start) {
      before->second += size;
      return;
    }
  }
  free_[start] = size;
}

}  // namespace godwit::tracee
