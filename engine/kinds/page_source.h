#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/kinds/page_sink.h"

namespace godwit::kinds {

// Where pages come from on demand: a frozen tree (lazy dump), an image directory (page-server --lazy-pages),
// or a page server (lazy-pages daemon).
class PageSource {
 public:
  PageSource() = default;
  PageSource(const PageSource&) = delete;
  PageSource& operator=(const PageSource&) = delete;
  virtual ~PageSource() = default;

  // Copies at most range.pages pages from range.address on into `buffer` and returns how many pages were
  // copied: fewer where a run ends, 0 when the first page is not there. Throws for an unknown image.
  virtual uint64_t read(PageImageId id, PageRange range, std::span<std::byte> buffer) = 0;
};

}  // namespace godwit::kinds
