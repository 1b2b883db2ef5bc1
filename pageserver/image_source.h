#pragma once

#include <map>

#include "engine/images/image_directory.h"
#include "engine/images/pagemap.h"
#include "engine/kinds/page_source.h"

namespace godwit::pageserver {

// The pages of an image directory and its parents (page-server --lazy-pages). Used by one thread.
class ImageSource final : public kinds::PageSource {
 public:
  // `directory` outlives this.
  explicit ImageSource(const images::ImageDirectory& directory) : directory_(directory) {}

  // Also gives pages that are not marked lazy: a daemon only asks for what it needs. A run ends where the
  // image or the file with its bytes does. Throws Error for an id that has no pagemap, FormatError for
  // damaged ones.
  uint64_t read(kinds::PageImageId id, kinds::PageRange range, std::span<std::byte> buffer) override;

 private:
  const images::PagemapChain& chain(kinds::PageImageId id);

  const images::ImageDirectory& directory_;
  std::map<uint64_t, images::PagemapChain> chains_;  // by dst_id
};

}  // namespace godwit::pageserver
