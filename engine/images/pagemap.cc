#include "engine/images/pagemap.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <set>
#include <span>
#include <utility>

#include "engine/base/units.h"
#include "engine/images/limits.h"
#include "proto/images/pagemap.pb.h"

namespace godwit::images {
namespace {

constexpr uint32_t kKnownFlags = kPageInParent | kPageLazy | kPagePresent;

uint32_t flags_of(const pb::pagemap_entry& entry) {
  if (entry.in_parent()) return entry.flags() | kPageInParent;
  return entry.has_flags() ? entry.flags() : kPagePresent;
}

PagemapEntry checked_entry(const RecordReader& reader, const pb::pagemap_entry& message,
                           uint64_t previous_end) {
  PagemapEntry entry{.address = message.vaddr(),
                     .pages = message.has_nr_pages() ? message.nr_pages() : message.compat_nr_pages(),
                     .flags = flags_of(message)};
  if (entry.address % kPageSize != 0)
    reader.fail(fmt::format("vaddr 0x{:x} is not page aligned", entry.address));
  if (entry.pages == 0) reader.fail(fmt::format("vaddr 0x{:x}: nr_pages is 0", entry.address));
  if (entry.address >= kMaxImageAddress || entry.pages > (kMaxImageAddress - entry.address) / kPageSize) {
    reader.fail(fmt::format("vaddr 0x{:x}: nr_pages {} is too many", entry.address, entry.pages));
  }
  if (entry.address < previous_end) {
    reader.fail(fmt::format("vaddr 0x{:x} is below the end of the entry before it, 0x{:x}", entry.address,
                            previous_end));
  }
  if ((entry.flags & ~kKnownFlags) != 0)
    reader.fail(fmt::format("unknown flags: {}", page_flags_text(entry.flags)));
  if ((entry.flags & kPageInParent) != 0 && entry.flags != kPageInParent) {
    reader.fail(fmt::format("flags exclude each other: {}", page_flags_text(entry.flags)));
  }
  return entry;
}

// Where an entry's own pages come from; entries in the parent are resolved elsewhere.
PageSegment own_segment(const PagemapEntry& entry) {
  PageSegment segment{.address = entry.address, .pages = entry.pages};
  if ((entry.flags & kPagePresent) != 0) {
    segment.may_be_lazy = (entry.flags & kPageLazy) != 0;
  } else {
    segment.source = (entry.flags & kPageLazy) != 0 ? PageSegment::Source::kLazy : PageSegment::Source::kZero;
  }
  return segment;
}

uint64_t end_of(const PageSegment& segment) {
  return segment.address + segment.pages * kPageSize;
}

// Whether `next` continues `last` in every respect, so that both are one segment.
bool continues(const PageSegment& last, const PageSegment& next) {
  if (end_of(last) != next.address || last.source != next.source || last.may_be_lazy != next.may_be_lazy)
    return false;
  if (last.source != PageSegment::Source::kPresent) return true;
  return last.file == next.file && last.offset + last.pages * kPageSize == next.offset;
}

void append(std::vector<PageSegment>& segments, const PageSegment& segment) {
  if (!segments.empty() && continues(segments.back(), segment)) {
    segments.back().pages += segment.pages;
  } else {
    segments.push_back(segment);
  }
}

// The part of `segment` within [from, to), which it overlaps.
PageSegment cut(PageSegment segment, uint64_t from, uint64_t to) {
  uint64_t start = std::max(segment.address, from), end = std::min(end_of(segment), to);
  if (segment.source == PageSegment::Source::kPresent) segment.offset += start - segment.address;
  segment.address = start;
  segment.pages = (end - start) / kPageSize;
  return segment;
}

// The first segment that ends behind `address`.
std::vector<PageSegment>::const_iterator first_behind(const std::vector<PageSegment>& segments,
                                                      uint64_t address) {
  return std::upper_bound(segments.begin(), segments.end(), address,
                          [](uint64_t a, const PageSegment& segment) { return a < end_of(segment); });
}

// Appends what `parent` has of an entry that must be wholly there.
void append_from_parent(std::vector<PageSegment>& segments, const PagemapEntry& entry,
                        const std::vector<PageSegment>& parent, const std::string& name) {
  uint64_t address = entry.address;
  for (auto it = first_behind(parent, address); address < entry.end(); ++it) {
    if (it == parent.end() || it->address > address) {
      throw FormatError("{}: the page at 0x{:x} should be in the parent image, which does not have it", name,
                        address);
    }
    append(segments, cut(*it, address, entry.end()));
    address = std::min(end_of(*it), entry.end());
  }
}

}  // namespace

std::string page_flags_text(uint32_t flags) {
  std::string text;
  auto add = [&](const std::string& word) { text += (text.empty() ? "" : " | ") + word; };
  if ((flags & kPageInParent) != 0) add("PE_PARENT");
  if ((flags & kPageLazy) != 0) add("PE_LAZY");
  if ((flags & kPagePresent) != 0) add("PE_PRESENT");
  if ((flags & ~kKnownFlags) != 0 || flags == 0) add(fmt::format("0x{:x}", flags & ~kKnownFlags));
  return text;
}

uint64_t PagemapEntry::end() const {
  return address + pages * kPageSize;
}

Pagemap read_pagemap(RecordReader reader) {
  Pagemap pagemap;
  pagemap.pages_id = reader.read_one<pb::pagemap_head>().pages_id();
  uint64_t previous_end = 0;
  for (pb::pagemap_entry message; reader.next(message);) {
    if (pagemap.entries.size() == kMaxPagemapEntries) reader.fail("too many entries");
    pagemap.entries.push_back(checked_entry(reader, message, previous_end));
    previous_end = pagemap.entries.back().end();
  }
  return pagemap;
}

// One pagemap of a chain with its pages file.
struct PagemapChain::Level {
  std::string name;
  Pagemap pagemap;
  std::optional<PagesFile> pages{};  // none if no page is present
  bool needs_parent = false;
};

std::optional<PagemapChain::Level> PagemapChain::read_level(const ImageDirectory& directory, Kind kind,
                                                            uint64_t id) {
  auto reader = directory.open_if_exists(kind, id);
  if (!reader) return std::nullopt;
  Level level{.name = reader->name(), .pagemap = read_pagemap(std::move(*reader))};
  uint64_t present = 0;
  for (const PagemapEntry& entry : level.pagemap.entries) {
    level.needs_parent |= (entry.flags & kPageInParent) != 0;
    if ((entry.flags & kPagePresent) == 0) continue;
    present += entry.pages;
    if (present > kMaxImageAddress / kPageSize) throw FormatError("{}: too many pages", level.name);
  }
  if (present == 0) return level;

  level.pages = PagesFile{.fd = directory.open_raw(Kind::kPages, level.pagemap.pages_id),
                          .name = directory.name_of(Kind::kPages, level.pagemap.pages_id)};
  struct stat status;
  check(::fstat(level.pages->fd.get(), &status), "fstat({})", level.pages->name);
  if (!S_ISREG(status.st_mode)) throw FormatError("{}: not a regular file", level.pages->name);
  if (static_cast<uint64_t>(status.st_size) < present * kPageSize) {
    throw FormatError("{}: {} bytes, but {} has {} pages in it", level.pages->name, status.st_size,
                      level.name, present);
  }
  return level;
}

std::optional<PagemapChain> PagemapChain::open_if_exists(const ImageDirectory& directory, Kind kind,
                                                         uint64_t id) {
  std::vector<Level> levels;
  std::set<std::pair<dev_t, ino_t>> seen;
  std::optional<ImageDirectory> parent;
  for (const ImageDirectory* current = &directory;;) {
    struct stat status;
    check(::fstat(current->fd(), &status), "fstat({})", current->path());
    if (!seen.emplace(status.st_dev, status.st_ino).second) {
      throw FormatError("{}: its parent links form a loop", directory.path());
    }
    if (seen.size() > kMaxParentLinks)
      throw FormatError("{}: more than {} parents", directory.path(), kMaxParentLinks);
    auto level = read_level(*current, kind, id);
    if (!level && levels.empty()) return std::nullopt;
    if (level) levels.push_back(std::move(*level));
    // A directory without this image ends the chain: the task did not exist yet.
    if (!level || !levels.back().needs_parent) break;
    auto next = current->open_parent();
    if (!next) break;
    parent = std::move(next);
    current = &*parent;
  }
  PagemapChain chain;
  chain.resolve(std::move(levels));
  return chain;
}

// From the oldest level to the newest, each looks its missing pages up in the resolved result of the one
// before.
void PagemapChain::resolve(std::vector<Level> levels) {
  for (auto level = levels.rbegin(); level != levels.rend(); ++level) {
    uint32_t file = static_cast<uint32_t>(files_.size());
    if (level->pages) files_.push_back(std::move(*level->pages));
    std::vector<PageSegment> parent = std::exchange(segments_, {});
    uint64_t offset = 0;
    for (const PagemapEntry& entry : level->pagemap.entries) {
      if ((entry.flags & kPageInParent) != 0) {
        append_from_parent(segments_, entry, parent, level->name);
        continue;
      }
      PageSegment segment = own_segment(entry);
      if (segment.source == PageSegment::Source::kPresent) {
        segment.file = file;
        segment.offset = offset;
        offset += entry.pages * kPageSize;
      }
      append(segments_, segment);
    }
    drop_unused_files();
  }
}

void PagemapChain::drop_unused_files() {
  std::map<uint32_t, uint32_t> new_numbers;
  std::vector<PagesFile> used;
  for (PageSegment& segment : segments_) {
    if (segment.source != PageSegment::Source::kPresent) continue;
    auto [number, is_new] = new_numbers.emplace(segment.file, static_cast<uint32_t>(used.size()));
    if (is_new) used.push_back(std::move(files_[segment.file]));
    segment.file = number->second;
  }
  files_ = std::move(used);
}

const PageSegment* PagemapChain::find(uint64_t address) const {
  auto it = first_behind(segments_, address);
  return it != segments_.end() && it->address <= address ? &*it : nullptr;
}

}  // namespace godwit::images
