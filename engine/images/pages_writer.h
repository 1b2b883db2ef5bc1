#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>

#include "engine/base/fd.h"
#include "engine/base/mapping.h"
#include "engine/images/image_directory.h"
#include "engine/images/pagemap.h"

namespace godwit::images {

// Writes page images into a directory: per image one pagemap-ID.img (or pagemap-shmem-ID.img) and one
// pages-M.img with the bytes. One image is open at a time; entries come in ascending order.
class PagesWriter {
 public:
  // `first_pages_id` is M of the first pages file: 1 in a dump, kPageServerFirstId in a page server, whose
  // files share the directory with those of the dump. `directory` outlives this.
  explicit PagesWriter(ImageDirectory& directory, uint32_t first_pages_id = 1);
  static constexpr uint32_t kPageServerFirstId = 0x10001;
  PagesWriter(const PagesWriter&) = delete;
  PagesWriter& operator=(const PagesWriter&) = delete;
  ~PagesWriter();

  // Allocates `bytes` for the pages file of an image that will be opened later, so that writing while the
  // tree is frozen is only a copy. May be called for several images; open() takes them in this order. A file
  // system that cannot allocate in advance is no error; one that is full is.
  void reserve(uint64_t bytes);

  // Begins an image; `kind` is kPagemap or kShmemPagemap.
  void open(Kind kind, uint64_t id);
  // kBufferPages pages to put contents into, for the calls of write_pages up to the next buffer().
  static constexpr uint64_t kBufferPages = 256;
  std::span<std::byte> buffer();
  // Appends an entry whose contents come next in buffer(), from its start on. `flags` includes kPagePresent.
  void write_pages(uint64_t address, uint64_t pages, uint32_t flags);
  // The same with contents that the caller holds: whole pages, any number.
  void write_pages(uint64_t address, std::span<const std::byte> contents, uint32_t flags);
  // Appends an entry without contents (in the parent, or lazy).
  void add_entry(uint64_t address, uint64_t pages, uint32_t flags);
  // Ends the image. The pages file gets its final size.
  void close();

  // Everything written is on the disk when this returns; reserved files that no image took are removed.
  void finish();

  uint64_t pages_written() const { return pages_written_; }

 private:
  struct Reserved {
    uint32_t pages_id;
    Fd fd;
  };
  struct OpenImage;
  Reserved create_pages_file();
  void merge(PagemapEntry entry);
  void append(std::span<const std::byte> contents);
  // Writes what entries have taken of the buffer: many small ones cost one system call.
  void flush_buffer();
  void write_entry(const PagemapEntry& entry);

  ImageDirectory& directory_;
  uint32_t next_pages_id_;
  std::deque<Reserved> reserved_;
  std::unique_ptr<OpenImage> image_;
  Mapping buffer_;
  size_t buffer_used_ = 0;  // bytes that entries have taken and that are not written yet
  uint64_t pages_written_ = 0;
};

}  // namespace godwit::images
