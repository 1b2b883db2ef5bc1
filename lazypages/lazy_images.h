#pragma once

#include <cstdint>

#include "engine/images/image_directory.h"
#include "lazypages/missing_pages.h"

namespace godwit::lazypages {

// The pages of a task that no image holds (PE_LAZY without PE_PRESENT, parents included), cut where its areas
// are, because pages can only be placed into one area at a time. Throws as PagemapChain.
MissingPages missing_pages_of(const images::ImageDirectory& images, uint64_t pid);

// The same of all tasks of the images, in pages.
uint64_t count_missing_pages(const images::ImageDirectory& images);

}  // namespace godwit::lazypages
