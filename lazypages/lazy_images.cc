#include "lazypages/lazy_images.h"

#include <algorithm>

#include "engine/base/units.h"
#include "engine/images/pagemap.h"
#include "engine/memory/vma.h"
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

// Whether the page lies in an area that a restore may leave incomplete.
bool may_wait(const pb::mm_entry& mm, uint64_t address) {
  return std::any_of(mm.vmas().begin(), mm.vmas().end(), [&](const pb::vma_entry& vma) {
    return vma.start() <= address && address < vma.end() && memory::may_be_lazy(vma);
  });
}

}  // namespace

LazyImage read_lazy_image(const images::ImageDirectory& images, uint64_t pid) {
  using Source = images::PageSegment::Source;
  LazyImage image;
  auto chain = images::PagemapChain::open_if_exists(images, images::Kind::kPagemap, pid);
  if (!chain) return image;
  auto mm = images.open(images::Kind::kMm, pid).read_one<pb::mm_entry>();
  for (const images::PageSegment& segment : chain->segments()) {
    if (segment.source == Source::kLazy) {
      add_cut(image.missing, mm, segment.address, segment.address + segment.pages * kPageSize);
    } else if (segment.source == Source::kPresent && segment.may_be_lazy && may_wait(mm, segment.address)) {
      image.held_page = segment.address;
    }
  }
  return image;
}

uint64_t count_missing_pages(const images::ImageDirectory& images) {
  uint64_t pages = 0;
  auto reader = images.open(images::Kind::kPstree);
  while (auto entry = reader.next<pb::pstree_entry>())
    pages += read_lazy_image(images, entry->pid()).missing.pages();
  return pages;
}

}  // namespace godwit::lazypages
