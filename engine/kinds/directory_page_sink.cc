#include "engine/kinds/directory_page_sink.h"

namespace godwit::kinds {

static_assert(PageSink::kBufferPages == images::PagesWriter::kBufferPages);

images::Kind pagemap_kind(PageImageId id) {
  return id.type == PageImageId::Type::kTask ? images::Kind::kPagemap : images::Kind::kShmemPagemap;
}

DirectoryPageSink::DirectoryPageSink(images::ImageDirectory& directory, uint32_t first_pages_id)
    : directory_(directory), writer_(directory, first_pages_id) {}

bool DirectoryPageSink::open(PageImageId id) {
  writer_.open(pagemap_kind(id), id.id);
  auto parent = directory_.open_parent();
  return parent && parent->open_raw_if_exists(pagemap_kind(id), id.id);
}

void DirectoryPageSink::add_in_parent(PageRange range) {
  writer_.add_entry(range.address, range.pages, images::kPageInParent);
}

void DirectoryPageSink::add_lazy(PageRange range) {
  writer_.add_entry(range.address, range.pages, images::kPageLazy);
}

std::span<std::byte> DirectoryPageSink::buffer() {
  return writer_.buffer();
}

void DirectoryPageSink::add_pages(PageRange range, bool may_be_lazy) {
  uint32_t flags = images::kPagePresent | (may_be_lazy ? images::kPageLazy : 0);
  writer_.write_pages(range.address, range.pages, flags);
}

void DirectoryPageSink::add_contents(PageRange range, std::span<const std::byte> contents, bool may_be_lazy) {
  uint32_t flags = images::kPagePresent | (may_be_lazy ? images::kPageLazy : 0);
  writer_.write_pages(range.address, contents, flags);
}

void DirectoryPageSink::close() {
  writer_.close();
}

void DirectoryPageSink::finish() {
  writer_.finish();
}

}  // namespace godwit::kinds
