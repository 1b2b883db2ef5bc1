#include "pageserver/directory_store.h"

#include "engine/images/image_directory.h"
#include "engine/kinds/directory_page_sink.h"

namespace godwit::pageserver {
namespace {

// The image files of one connection.
class ReceivedImages final : public kinds::PageSink {
 public:
  explicit ReceivedImages(const std::string& path)
      : directory_(images::ImageDirectory::open(path)),
        sink_(directory_, images::PagesWriter::kPageServerFirstId) {}
  ~ReceivedImages() override {
    if (!finished_) directory_.remove_created();
  }

  bool open(kinds::PageImageId id) override { return sink_.open(id); }
  void add_in_parent(kinds::PageRange range) override { sink_.add_in_parent(range); }
  void add_lazy(kinds::PageRange range) override { sink_.add_lazy(range); }
  std::span<std::byte> buffer() override { return sink_.buffer(); }
  void add_pages(kinds::PageRange range, bool may_be_lazy) override { sink_.add_pages(range, may_be_lazy); }
  void add_contents(kinds::PageRange range, std::span<const std::byte> contents, bool may_be_lazy) override {
    sink_.add_contents(range, contents, may_be_lazy);
  }
  void close() override { sink_.close(); }
  void finish() override {
    sink_.finish();
    finished_ = true;
  }

 private:
  images::ImageDirectory directory_;
  kinds::DirectoryPageSink sink_;
  bool finished_ = false;
};

bool has_image(const std::string& path, kinds::PageImageId id) {
  auto parent = images::ImageDirectory::open(path).open_parent();
  return parent && parent->open_raw_if_exists(kinds::pagemap_kind(id), id.id);
}

}  // namespace

Store directory_store(const std::string& path) {
  return {[path] { return std::make_unique<ReceivedImages>(path); },
          [path](kinds::PageImageId id) { return has_image(path, id); }};
}

}  // namespace godwit::pageserver
