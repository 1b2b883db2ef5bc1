#pragma once

#include "engine/images/pages_writer.h"
#include "engine/kinds/page_sink.h"

namespace godwit::kinds {

// The image file of somebody's pages: kPagemap or kShmemPagemap. Its id is that of the PageImageId.
images::Kind pagemap_kind(PageImageId id);

// Puts pages into an image directory.
class DirectoryPageSink final : public PageSink {
 public:
  // `directory` outlives this; its start_dump has been called, as the parent link is looked up there.
  // `first_pages_id` as in images::PagesWriter.
  explicit DirectoryPageSink(images::ImageDirectory& directory, uint32_t first_pages_id = 1);

  // Before the freeze: allocates file space for the image that will be opened next after those reserved
  // already.
  void reserve(uint64_t bytes) { writer_.reserve(bytes); }

  bool open(PageImageId id) override;
  void add_in_parent(PageRange range) override;
  void add_lazy(PageRange range) override;
  std::span<std::byte> buffer() override;
  void add_pages(PageRange range, bool may_be_lazy) override;
  void add_contents(PageRange range, std::span<const std::byte> contents, bool may_be_lazy) override;
  void close() override;
  void finish() override;

  uint64_t pages_written() const { return writer_.pages_written(); }

 private:
  images::ImageDirectory& directory_;
  images::PagesWriter writer_;
};

}  // namespace godwit::kinds
