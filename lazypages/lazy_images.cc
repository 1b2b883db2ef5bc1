#include "lazypages/lazy_images.h"

#include <algorithm>

#include "engine/base/units.h"
#include "engine/images/pagemap.h"
#include "proto/images/inventory.pb.h"
#include "proto/images/mm.pb.h"

namespace godwit::lazypages {
namespace {

void add_cut(MissingPages& missing, const pb::mm_entry& mm, uint64_t start, uint64_t end) {
  for (const auto& vma : mm.vmas()) {
    uint64_t first = std::max(start, vma.start());
    uint64_t last = std::min(end, vma.end());
    if (first < last) missing.add({first, (last - first) / kPageSize});
  }
}

}  // namespace

MissingPages missing_pages_of(const images::ImageDirectory& images, uint64_t pid) {
  MissingPages missing;
  auto chain = images::PagemapChain::open_if_exists(images, images::Kind::kPagemap, pid);
  if (!chain) return missing;
  auto mm = images.open(images::Kind::kMm, pid).read_one<pb::mm_entry>();
  for (const images::PageSegment& segment : chain->segments()) {
    if (segment.source != images::PageSegment::Source::kLazy) continue;
    add_cut(missing, mm, segment.address, segment.address + segment.pages * kPageSize);
  }
  return missing;
}

uint64_t count_missing_pages(const images::ImageDirectory& images) {
  uint64_t pages = 0;
  auto reader = images.open(images::Kind::kPstree);
  while (auto entry = reader.next<pb::pstree_entry>())
    pages += missing_pages_of(images, entry->pid()).pages();
  return pages;
}

}  // namespace godwit::lazypages
