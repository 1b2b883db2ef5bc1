#include "pageserver/image_source.h"

#include <algorithm>

#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/base/units.h"
#include "engine/kinds/directory_page_sink.h"
#include "pageserver/wire.h"

namespace godwit::pageserver {

uint64_t ImageSource::read(kinds::PageImageId id, kinds::PageRange range, std::span<std::byte> buffer) {
  const images::PagemapChain& pages = chain(id);
  const images::PageSegment* segment = pages.find(range.address);
  if (segment == nullptr || segment->source == images::PageSegment::Source::kLazy) return 0;
  uint64_t first = (range.address - segment->address) / kPageSize;
  uint64_t count = std::min({range.pages, segment->pages - first, buffer.size() / kPageSize});
  std::span<std::byte> into = buffer.first(count * kPageSize);
  if (segment->source == images::PageSegment::Source::kZero) {
    std::ranges::fill(into, std::byte{0});
  } else {
    auto offset = static_cast<off_t>(segment->offset + first * kPageSize);
    pread_exactly(pages.fd(segment->file), into, offset, pages.file_name(segment->file).c_str());
  }
  return count;
}

const images::PagemapChain& ImageSource::chain(kinds::PageImageId id) {
  uint64_t key = encode_image_id(id);
  auto known = chains_.find(key);
  if (known == chains_.end()) {
    auto opened = images::PagemapChain::open_if_exists(directory_, kinds::pagemap_kind(id), id.id);
    if (!opened) throw Error("{}: not there", directory_.name_of(kinds::pagemap_kind(id), id.id));
    known = chains_.emplace(key, std::move(*opened)).first;
  }
  return known->second;
}

}  // namespace godwit::pageserver
