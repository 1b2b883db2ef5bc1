#include "engine/images/pages_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "engine/base/units.h"
#include "proto/images/pagemap.pb.h"

namespace godwit::images {

struct PagesWriter::OpenImage {
  RecordWriter pagemap;
  Reserved pages;
  std::string pages_name;
  uint64_t offset = 0;
  // The entry that the next one may still be merged into; no pages if there is none.
  PagemapEntry last{};
};

PagesWriter::PagesWriter(ImageDirectory& directory, uint32_t first_pages_id)
    : directory_(directory),
      next_pages_id_(first_pages_id),
      buffer_(Mapping::anonymous(kBufferPages * kPageSize)) {}

PagesWriter::~PagesWriter() = default;

PagesWriter::Reserved PagesWriter::create_pages_file() {
  uint32_t id = next_pages_id_++;
  return {id, directory_.create_raw(Kind::kPages, id)};
}

void PagesWriter::reserve(uint64_t bytes) {
  Reserved file = create_pages_file();
  int result = 0;
  do {
    result = bytes == 0 ? 0 : ::fallocate(file.fd.get(), FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(bytes));
  } while (result < 0 && errno == EINTR);
  if (result < 0 && errno != EOPNOTSUPP && errno != ENOSYS) {
    throw SystemError(errno, "fallocate({}, {} bytes)", directory_.name_of(Kind::kPages, file.pages_id),
                      bytes);
  }
  reserved_.push_back(std::move(file));
}

void PagesWriter::open(Kind kind, uint64_t id) {
  if (image_) throw Error("{}: opened while another image is open", directory_.name_of(kind, id));
  Reserved pages;
  if (reserved_.empty()) {
    pages = create_pages_file();
  } else {
    pages = std::move(reserved_.front());
    reserved_.pop_front();
  }
  pb::pagemap_head head;
  head.set_pages_id(pages.pages_id);
  std::string pages_name = directory_.name_of(Kind::kPages, pages.pages_id);
  image_ = std::make_unique<OpenImage>(
      OpenImage{directory_.create(kind, id), std::move(pages), std::move(pages_name)});
  image_->pagemap.write(head);
}

std::span<std::byte> PagesWriter::buffer() {
  flush_buffer();
  return buffer_.bytes();
}

void PagesWriter::write_pages(uint64_t address, uint64_t pages, uint32_t flags) {
  if (pages * kPageSize > buffer_.size() - buffer_used_)
    throw Error("{} pages do not come from the buffer", pages);
  merge({address, pages, flags});
  buffer_used_ += pages * kPageSize;
  pages_written_ += pages;
}

void PagesWriter::write_pages(uint64_t address, std::span<const std::byte> contents, uint32_t flags) {
  flush_buffer();
  merge({address, contents.size() / kPageSize, flags});
  append(contents);
  pages_written_ += contents.size() / kPageSize;
}

void PagesWriter::append(std::span<const std::byte> contents) {
  pwrite_all(image_->pages.fd.get(), contents, static_cast<off_t>(image_->offset),
             image_->pages_name.c_str());
  image_->offset += contents.size();
}

void PagesWriter::flush_buffer() {
  if (buffer_used_ > 0) append(buffer_.bytes().first(buffer_used_));
  buffer_used_ = 0;
}

void PagesWriter::add_entry(uint64_t address, uint64_t pages, uint32_t flags) {
  merge({address, pages, flags});
}

void PagesWriter::merge(PagemapEntry entry) {
  PagemapEntry& last = image_->last;
  if (entry.pages == 0) return;
  if (last.pages != 0 && entry.address < last.end()) {
    throw Error("{}: pages at 0x{:x} after those up to 0x{:x}", image_->pagemap.name(), entry.address,
                last.end());
  }
  if (last.pages != 0 && last.end() == entry.address && last.flags == entry.flags) {
    last.pages += entry.pages;
    return;
  }
  write_entry(std::exchange(last, entry));
}

void PagesWriter::write_entry(const PagemapEntry& entry) {
  if (entry.pages == 0) return;
  pb::pagemap_entry message;
  message.set_vaddr(entry.address);
  // The 32-bit count is what readers before 4.2 use.
  message.set_compat_nr_pages(
      static_cast<uint32_t>(std::min<uint64_t>(entry.pages, std::numeric_limits<uint32_t>::max())));
  message.set_nr_pages(entry.pages);
  message.set_flags(entry.flags);
  image_->pagemap.write(message);
}

void PagesWriter::close() {
  flush_buffer();
  write_entry(std::exchange(image_->last, {}));
  image_->pagemap.finish();
  // Gives back what was reserved and not used.
  check(::ftruncate(image_->pages.fd.get(), static_cast<off_t>(image_->offset)), "ftruncate({})",
        image_->pages_name);
  image_.reset();
}

void PagesWriter::finish() {
  for (Reserved& file : reserved_) directory_.remove(Kind::kPages, file.pages_id);
  reserved_.clear();
  directory_.fsync_all();
}

}  // namespace godwit::images
