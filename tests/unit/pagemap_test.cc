#include "engine/images/pagemap.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>

#include "engine/base/bytes.h"
#include "engine/base/units.h"
#include "engine/images/pages_writer.h"
#include "engine/kinds/directory_page_sink.h"
#include "proto/images/pagemap.pb.h"
#include "tests/support/temporary_directory.h"

namespace godwit::images {
namespace {

constexpr uint64_t kBase = 0x10000;
constexpr uint64_t page(uint64_t number) {
  return kBase + number * kPageSize;
}

std::string error_of(auto&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// A directory whose parent, if not empty, is `parent`; pages are filled with their round's letter.
ImageDirectory make_round(const test::TemporaryDirectory& dir, const std::string& name,
                          const std::string& parent) {
  std::filesystem::create_directory(dir / name);
  ImageDirectory directory = ImageDirectory::open(dir / name);
  directory.start_dump(parent.empty() ? std::nullopt : std::optional("../" + parent));
  return directory;
}

struct Entry {
  uint64_t first, pages;
  uint32_t flags;
};

void write_image(ImageDirectory& directory, std::vector<Entry> entries, char letter) {
  PagesWriter writer(directory);
  writer.open(Kind::kPagemap, 7);
  for (const Entry& entry : entries) {
    if ((entry.flags & kPagePresent) != 0) {
      std::memset(writer.buffer().data(), letter, entry.pages * kPageSize);
      writer.write_pages(page(entry.first), entry.pages, entry.flags);
    } else {
      writer.add_entry(page(entry.first), entry.pages, entry.flags);
    }
  }
  writer.close();
  writer.finish();
}

// "A" to "Z" for a page of that round, "?" lazy, "0" zero, "." not in the image.
std::string picture(const PagemapChain& chain, uint64_t pages) {
  std::string text;
  for (uint64_t i = 0; i < pages; ++i) {
    const PageSegment* segment = chain.find(page(i) + 123);
    if (segment == nullptr) {
      text += '.';
    } else if (segment->source != PageSegment::Source::kPresent) {
      text += segment->source == PageSegment::Source::kLazy ? '?' : '0';
    } else {
      char letter = 0;
      off_t offset = static_cast<off_t>(segment->offset + page(i) - segment->address);
      pread_exactly(chain.fd(segment->file), writable_bytes_of(letter), offset, "pages");
      text += letter;
    }
  }
  return text;
}

TEST_CASE("a pagemap without parents") {
  test::TemporaryDirectory dir;
  ImageDirectory directory = make_round(dir, "a", "");
  write_image(directory, {{0, 2, 4}, {2, 1, 4}, {4, 1, 6}, {5, 2, 2}, {9, 1, 4}}, 'A');
  Pagemap pagemap = read_pagemap(directory.open(Kind::kPagemap, 7));
  CHECK(pagemap.pages_id == 1);
  CHECK(pagemap.entries ==
        std::vector<PagemapEntry>{{page(0), 3, 4}, {page(4), 1, 6}, {page(5), 2, 2}, {page(9), 1, 4}});
  auto chain = PagemapChain::open_if_exists(directory, Kind::kPagemap, 7);
  REQUIRE(chain);
  CHECK(picture(*chain, 11) == "AAA.A??..A.");
  CHECK(chain->segments()[1].may_be_lazy);
  CHECK_FALSE(chain->segments()[0].may_be_lazy);
  CHECK_FALSE(PagemapChain::open_if_exists(directory, Kind::kPagemap, 8));
  CHECK_FALSE(PagemapChain::open_if_exists(directory, Kind::kShmemPagemap, 7));
}

TEST_CASE("pages come from the youngest parent that has them") {
  test::TemporaryDirectory dir;
  ImageDirectory a = make_round(dir, "a", "");
  write_image(a, {{0, 8, 4}}, 'A');
  ImageDirectory b = make_round(dir, "b", "a");
  write_image(b, {{0, 2, 1}, {2, 3, 4}, {6, 2, 1}}, 'B');
  ImageDirectory c = make_round(dir, "c", "b");
  write_image(c, {{1, 2, 1}, {3, 1, 4}, {4, 1, 1}, {6, 1, 1}, {7, 1, 4}}, 'C');
  auto chain = PagemapChain::open_if_exists(c, Kind::kPagemap, 7);
  REQUIRE(chain);
  CHECK(picture(*chain, 9) == ".ABCB.AC.");
  // Pages that stand side by side in one file are one segment; the next page in memory is elsewhere.
  CHECK(chain->segments().size() == 6);
}

TEST_CASE("files that no page comes from are closed") {
  test::TemporaryDirectory dir;
  ImageDirectory a = make_round(dir, "a", "");
  write_image(a, {{0, 1, 4}}, 'A');
  ImageDirectory b = make_round(dir, "b", "a");
  write_image(b, {{0, 1, 1}, {1, 1, 4}}, 'B');
  ImageDirectory c = make_round(dir, "c", "b");
  write_image(c, {{0, 1, 1}}, 'C');
  auto chain = PagemapChain::open_if_exists(c, Kind::kPagemap, 7);
  REQUIRE(chain);
  REQUIRE(chain->segments().size() == 1);
  CHECK(chain->segments()[0].file == 0);
  CHECK(contains(chain->file_name(0), "pages-1.img"));
  CHECK(picture(*chain, 1) == "A");
}

TEST_CASE("a page that the parent does not have is an error") {
  test::TemporaryDirectory dir;
  ImageDirectory a = make_round(dir, "a", "");
  write_image(a, {{0, 2, 4}, {3, 1, 4}}, 'A');
  ImageDirectory b = make_round(dir, "b", "a");
  write_image(b, {{1, 3, 1}}, 'B');
  CHECK(
      contains(error_of([&] { PagemapChain::open_if_exists(b, Kind::kPagemap, 7); }), "the page at 0x12000"));
  ImageDirectory alone = make_round(dir, "alone", "");
  write_image(alone, {{0, 1, 1}}, 'X');
  CHECK_THROWS_AS(PagemapChain::open_if_exists(alone, Kind::kPagemap, 7), FormatError);
}

TEST_CASE("parent links that form a loop are found") {
  test::TemporaryDirectory dir;
  ImageDirectory a = make_round(dir, "a", "");
  ImageDirectory b = make_round(dir, "b", "a");
  write_image(a, {{0, 1, 1}}, 'A');
  write_image(b, {{0, 1, 1}}, 'B');
  std::filesystem::create_symlink("../b", dir / "a/parent");
  CHECK(contains(error_of([&] { PagemapChain::open_if_exists(b, Kind::kPagemap, 7); }), "form a loop"));
}

TEST_CASE("a pages file that ends too early is an error") {
  test::TemporaryDirectory dir;
  ImageDirectory a = make_round(dir, "a", "");
  write_image(a, {{0, 2, 4}}, 'A');
  REQUIRE(::truncate((dir / "a/pages-1.img").c_str(), 2 * kPageSize - 1) == 0);
  CHECK(contains(error_of([&] { PagemapChain::open_if_exists(a, Kind::kPagemap, 7); }),
                 "pages-1.img: 8191 bytes"));
  std::filesystem::remove(dir / "a/pages-1.img");
  CHECK_THROWS_AS(PagemapChain::open_if_exists(a, Kind::kPagemap, 7), SystemError);
}

// Reads a pagemap of entries as given, so that bad ones can be written.
Pagemap read_raw(std::vector<std::function<void(pb::pagemap_entry&)>> entries) {
  test::TemporaryDirectory dir;
  ImageDirectory directory = ImageDirectory::open(dir.path());
  RecordWriter writer = directory.create(Kind::kPagemap, 7);
  pb::pagemap_head head;
  head.set_pages_id(1);
  writer.write(head);
  for (const auto& set : entries) {
    pb::pagemap_entry entry;
    entry.set_vaddr(kBase);
    entry.set_compat_nr_pages(1);
    set(entry);
    writer.write(entry);
  }
  writer.finish();
  return read_pagemap(directory.open(Kind::kPagemap, 7));
}

TEST_CASE("entries of older writers") {
  Pagemap pagemap = read_raw({[](auto& entry) { entry.set_compat_nr_pages(3); },
                              [](auto& entry) {
                                entry.set_vaddr(page(3));
                                entry.set_in_parent(true);
                              },
                              [](auto& entry) {
                                entry.set_vaddr(page(4));
                                entry.set_compat_nr_pages(0);
                                entry.set_nr_pages(uint64_t{1} << 33);
                                entry.set_flags(4);
                              }});
  CHECK(pagemap.entries ==
        std::vector<PagemapEntry>{{page(0), 3, 4}, {page(3), 1, 1}, {page(4), uint64_t{1} << 33, 4}});
}

TEST_CASE("entries that cannot be are refused") {
  auto fails = [](std::function<void(pb::pagemap_entry&)> set) { return error_of([&] { read_raw({set}); }); };
  CHECK(contains(fails([](auto& entry) { entry.set_vaddr(kBase + 1); }),
                 "record 2: vaddr 0x10001 is not page aligned"));
  CHECK(contains(fails([](auto& entry) { entry.set_nr_pages(0); }), "nr_pages is 0"));
  CHECK(contains(fails([](auto& entry) { entry.set_nr_pages(uint64_t{1} << 52); }), "too many"));
  CHECK(contains(fails([](auto& entry) { entry.set_vaddr(~uint64_t{4095}); }), "too many"));
  CHECK(contains(fails([](auto& entry) { entry.set_flags(12); }), "unknown flags: PE_PRESENT | 0x8"));
  CHECK(contains(fails([](auto& entry) { entry.set_flags(5); }), "exclude each other"));
  CHECK(contains(error_of([] {
                   read_raw({[](auto&) {}, [](auto&) {}});
                 }),
                 "record 3: vaddr 0x10000 is below the end"));
}

TEST_CASE("pages writer: sizes, counts and order") {
  test::TemporaryDirectory dir;
  ImageDirectory directory = ImageDirectory::open(dir.path());
  PagesWriter writer(directory, PagesWriter::kPageServerFirstId);
  writer.reserve(100 * kPageSize);
  writer.reserve(kPageSize);
  writer.open(Kind::kPagemap, 7);
  CHECK_THROWS_AS(writer.open(Kind::kPagemap, 8), Error);
  writer.write_pages(page(0), 2, kPagePresent);
  CHECK_THROWS_AS(writer.add_entry(page(1), 1, kPageInParent), Error);
  writer.add_entry(page(2), uint64_t{1} << 32, kPageLazy);
  writer.close();
  writer.finish();
  CHECK(writer.pages_written() == 2);
  CHECK(std::filesystem::file_size(dir / "pages-65537.img") == 2 * kPageSize);
  CHECK_FALSE(std::filesystem::exists(dir / "pages-65538.img"));
  struct stat status;
  REQUIRE(::stat((dir / "pages-65537.img").c_str(), &status) == 0);
  CHECK(static_cast<uint64_t>(status.st_blocks) * 512 < 50 * kPageSize);

  RecordReader reader = directory.open(Kind::kPagemap, 7);
  CHECK(reader.read_one<pb::pagemap_head>().pages_id() == 65537);
  auto entries = reader.read_all<pb::pagemap_entry>();
  REQUIRE(entries.size() == 2);
  CHECK(entries[0].compat_nr_pages() == 2);
  CHECK(entries[0].nr_pages() == 2);
  CHECK(entries[1].compat_nr_pages() == std::numeric_limits<uint32_t>::max());
  CHECK(entries[1].nr_pages() == uint64_t{1} << 32);
}

TEST_CASE("the page sink of a directory knows what the parent has") {
  using kinds::DirectoryPageSink;
  using kinds::PageImageId;
  test::TemporaryDirectory dir;
  PageImageId task{PageImageId::Type::kTask, 7}, shared{PageImageId::Type::kSharedMemory, 7};
  ImageDirectory a = make_round(dir, "a", "");
  write_image(a, {{0, 4, 4}}, 'A');
  ImageDirectory b = make_round(dir, "b", "a");
  DirectoryPageSink sink(b);
  CHECK(sink.open(task));
  sink.add_in_parent({page(0), 1});
  std::memset(sink.buffer().data(), 'B', kPageSize);
  sink.add_pages({page(1), 1}, true);
  sink.add_lazy({page(2), 1});
  sink.close();
  CHECK_FALSE(sink.open(shared));
  sink.close();
  sink.finish();
  auto chain = PagemapChain::open_if_exists(b, Kind::kPagemap, 7);
  REQUIRE(chain);
  CHECK(picture(*chain, 4) == "AB?.");
  CHECK(PagemapChain::open_if_exists(b, Kind::kShmemPagemap, 7)->segments().empty());
}

}  // namespace
}  // namespace godwit::images
