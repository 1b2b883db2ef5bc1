#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/fd.h"
#include "engine/images/image_directory.h"

// pagemap-ID.img and pagemap-shmem-ID.img: which pages an image holds, and resolving them through parent
// images.
namespace godwit::images {

inline constexpr uint32_t kPageInParent = 1;  // PE_PARENT
inline constexpr uint32_t kPageLazy = 2;      // PE_LAZY: may come on demand; without kPagePresent it must
inline constexpr uint32_t kPagePresent = 4;   // PE_PRESENT: the bytes stand in the pages file

// "PE_LAZY | PE_PRESENT"; unknown bits in hexadecimal.
std::string page_flags_text(uint32_t flags);

struct PagemapEntry {
  uint64_t address = 0;  // bytes, page aligned; of shared memory, the offset in the object
  uint64_t pages = 0;
  uint32_t flags = 0;
  uint64_t end() const;  // the first address behind it
  bool operator==(const PagemapEntry&) const = default;
};

struct Pagemap {
  uint32_t pages_id = 0;  // of the pages-M.img that holds the bytes
  std::vector<PagemapEntry> entries;
};

// Reads and checks a pagemap: entries aligned, not empty, ascending without overlap, within kMaxImageAddress,
// with known flags. Entries of older writers without flags are present, or in the parent if they say so.
Pagemap read_pagemap(RecordReader reader);

// A run of pages of a fully resolved image.
struct PageSegment {
  enum class Source {
    kPresent,  // bytes at `offset` of the chain's pages file number `file`
    kLazy,     // not in any image; the page server of the source has them
    kZero,     // named by the image but without contents
  };
  uint64_t address = 0;  // bytes, page aligned
  uint64_t pages = 0;
  Source source = Source::kPresent;
  bool may_be_lazy = false;  // kPresent that a lazy restore may leave for later
  uint32_t file = 0;
  uint64_t offset = 0;  // bytes
  bool operator==(const PageSegment&) const = default;
};

// The pages of one image with its parents: ascending segments without overlap. Pages in no segment are not in
// the image.
class PagemapChain {
 public:
  // `kind` is kPagemap or kShmemPagemap. None if the directory has no such pagemap. Throws FormatError for
  // damaged pagemaps, pages files that end too early, pages that a parent should have but has not, parent
  // links that form a loop.
  static std::optional<PagemapChain> open_if_exists(const ImageDirectory& directory, Kind kind, uint64_t id);

  // Of a task without memory: no pages.
  static PagemapChain none() { return PagemapChain(); }

  const std::vector<PageSegment>& segments() const { return segments_; }
  // The segment that holds this address; null if none does.
  const PageSegment* find(uint64_t address) const;
  int fd(uint32_t file) const { return files_[file].fd.get(); }
  const std::string& file_name(uint32_t file) const { return files_[file].name; }

 private:
  struct PagesFile {
    Fd fd;
    std::string name;
  };
  struct Level;
  PagemapChain() = default;
  static std::optional<Level> read_level(const ImageDirectory& directory, Kind kind, uint64_t id);
  void resolve(std::vector<Level> levels);
  void drop_unused_files();

  std::vector<PageSegment> segments_;
  std::vector<PagesFile> files_;
};

}  // namespace godwit::images
