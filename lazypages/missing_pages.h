#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <vector>

#include "engine/kinds/page_sink.h"

namespace godwit::lazypages {

// A run of missing pages: where they belong in the address space now, and their address in the image, which
// is what the page server knows them by. The two differ after an mremap(2).
struct MissingRun {
  uint64_t address = 0;  // bytes
  uint64_t pages = 0;
  uint64_t image = 0;  // bytes; of the first page

  uint64_t end() const;
  kinds::PageRange image_range() const { return {image, pages}; }
  bool operator==(const MissingRun&) const = default;
};

// The pages of one address space that have yet to come. An image page belongs to at most one place. Copying
// it is what a fork does. All addresses are page aligned.
class MissingPages {
 public:
  // Pages of the image at their own addresses, none of which is missing so far.
  void add(kinds::PageRange range);

  bool empty() const { return runs_.empty(); }
  uint64_t pages() const { return pages_; }

  // The image address of the page at `address`, if it is missing.
  std::optional<uint64_t> image_of(uint64_t address) const;
  // The first run at or behind `address`; a run that begins before it is given from there on.
  std::optional<MissingRun> next(uint64_t address) const;
  // What is missing of a range of the image, in the order of image addresses.
  std::vector<MissingRun> of_image(kinds::PageRange image) const;

  // The pages are there, or the address space has no use for them any more.
  void remove(kinds::PageRange range);
  // mremap: what is missing at `from` is missing at `to` from now on.
  void move(kinds::PageRange from, uint64_t to);

 private:
  void insert(const MissingRun& run);
  void erase(std::map<uint64_t, MissingRun>::iterator at);
  // Cuts what lies in the range out and returns it.
  std::vector<MissingRun> extract(kinds::PageRange range);

  std::map<uint64_t, MissingRun> runs_;    // by address
  std::map<uint64_t, uint64_t> by_image_;  // image address of a run -> its address
  uint64_t pages_ = 0;
};

}  // namespace godwit::lazypages
