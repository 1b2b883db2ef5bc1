#pragma once

#include <cstdint>
#include <optional>

#include "engine/images/image_directory.h"
#include "lazypages/missing_pages.h"

namespace godwit::lazypages {

struct LazyImage {
  // The pages that no image holds (PE_LAZY without PE_PRESENT, parents included), cut where the areas of the
  // task are, because pages can only be placed into one area at a time.
  MissingPages missing;
  // A page that the images hold but that a stock restore leaves to its daemon.
  std::optional<uint64_t> held_page;
};

// Of the task with this pid. Throws as PagemapChain.
LazyImage read_lazy_image(const images::ImageDirectory& images, uint64_t pid);

// Missing pages of all tasks of the images.
uint64_t count_missing_pages(const images::ImageDirectory& images);

}  // namespace godwit::lazypages
