#include "lazypages/missing_pages.h"

#include <algorithm>
#include <iterator>

#include "engine/base/units.h"

namespace godwit::lazypages {
namespace {

// The part of a run between two addresses, which it overlaps.
MissingRun part(const MissingRun& run, uint64_t start, uint64_t end) {
  uint64_t first = std::max(run.address, start);
  uint64_t last = std::min(run.end(), end);
  return {first, (last - first) / kPageSize, run.image + (first - run.address)};
}

}  // namespace

uint64_t MissingRun::end() const {
  return address + pages * kPageSize;
}

void MissingPages::add(kinds::PageRange range) {
  if (range.pages > 0) insert({range.address, range.pages, range.address});
}

std::optional<uint64_t> MissingPages::image_of(uint64_t address) const {
  auto run = next(address);
  if (!run || run->address != address) return std::nullopt;
  return run->image;
}

std::optional<MissingRun> MissingPages::next(uint64_t address) const {
  auto at = runs_.upper_bound(address);
  if (at != runs_.begin() && std::prev(at)->second.end() > address) --at;
  if (at == runs_.end()) return std::nullopt;
  return part(at->second, address, at->second.end());
}

std::vector<MissingRun> MissingPages::of_image(kinds::PageRange image) const {
  std::vector<MissingRun> found;
  uint64_t end = image.address + image.pages * kPageSize;
  auto at = by_image_.upper_bound(image.address);
  if (at != by_image_.begin()) --at;
  for (; at != by_image_.end() && at->first < end; ++at) {
    const MissingRun& run = runs_.at(at->second);
    uint64_t first = std::max(run.image, image.address);
    uint64_t last = std::min(run.image + run.pages * kPageSize, end);
    if (first < last) found.push_back({run.address + (first - run.image), (last - first) / kPageSize, first});
  }
  return found;
}

void MissingPages::remove(kinds::PageRange range) {
  extract(range);
}

void MissingPages::move(kinds::PageRange from, uint64_t to) {
  auto moved = extract(from);
  extract({to, from.pages});
  for (MissingRun run : moved) {
    run.address = to + (run.address - from.address);
    insert(run);
  }
}

void MissingPages::insert(const MissingRun& run) {
  runs_.emplace(run.address, run);
  by_image_.emplace(run.image, run.address);
  pages_ += run.pages;
}

void MissingPages::erase(std::map<uint64_t, MissingRun>::iterator at) {
  pages_ -= at->second.pages;
  by_image_.erase(at->second.image);
  runs_.erase(at);
}

std::vector<MissingRun> MissingPages::extract(kinds::PageRange range) {
  std::vector<MissingRun> found;
  uint64_t start = range.address;
  uint64_t end = start + range.pages * kPageSize;
  if (start == end) return found;
  auto at = runs_.upper_bound(start);
  if (at != runs_.begin() && std::prev(at)->second.end() > start) --at;
  while (at != runs_.end() && at->first < end) {
    MissingRun run = at->second;
    auto following = std::next(at);
    erase(at);
    if (run.address < start) insert(part(run, run.address, start));
    if (run.end() > end) insert(part(run, end, run.end()));
    found.push_back(part(run, start, end));
    at = following;
  }
  return found;
}

}  // namespace godwit::lazypages
