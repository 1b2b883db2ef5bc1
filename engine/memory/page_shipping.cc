#include "engine/memory/page_shipping.h"

#include <algorithm>
#include <cstring>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/units.h"
#include "engine/memory/vma.h"

namespace godwit::memory {
namespace {

using kinds::PageRange;

// Ships the areas of one process into an open image.
class Shipper {
 public:
  Shipper(pid_t pid, const Shipping& shipping, bool has_parent, kinds::PageSink& sink)
      : memory_(pid), shipping_(shipping), has_parent_(has_parent), sink_(sink) {}

  void ship(const AreaPages& area) {
    bool lazy = may_be_lazy(area.vma);
    // An all-zero page needs no bytes where a missing page reads as zero.
    drop_zero_ = !shipping_.keep_zero_pages && has_status(area.vma, kVmaAnonPrivate);
    for (const auto& region : area.owned) {
      PageRange range{region.start, (region.end - region.start) / kPageSize};
      counts_.scanned += range.pages;
      if (has_parent_ && (region.categories & kernel::kPageWritten) == 0) {
        gather({range, Run::What::kInParent, false, false});
        counts_.in_parent += range.pages;
      } else if (shipping_.lazy && lazy) {
        gather({range, Run::What::kLazy, false, false});
        counts_.lazy += range.pages;
      } else {
        ship_contents(range, lazy);
      }
    }
  }

  // What is still gathered goes out.
  void finish() { flush(); }
  const PageCounts& counts() const { return counts_; }

 private:
  // Pagemap entries that go out together, so that their pages are read by one call and handed over in one
  // buffer.
  struct Run {
    PageRange range;
    enum class What { kContents, kInParent, kLazy } what;
    bool may_be_lazy;
    bool drop_zero;
    bool has_contents() const { return what == What::kContents; }
  };
  static constexpr size_t kMostRuns = 4096;

  void ship_contents(PageRange range, bool may_be_lazy) {
    while (range.pages > 0) {
      uint64_t taken = std::min(range.pages, kinds::PageSink::kBufferPages - gathered_pages_);
      gathered_pages_ += taken;
      gather({{range.address, taken}, Run::What::kContents, may_be_lazy, drop_zero_});
      range.address += taken * kPageSize;
      range.pages -= taken;
    }
  }

  void gather(const Run& run) {
    gathered_.push_back(run);
    if (gathered_pages_ == kinds::PageSink::kBufferPages || gathered_.size() >= kMostRuns) flush();
  }

  void flush() {
    if (gathered_pages_ > 0) {
      auto buffer = sink_.buffer().first(gathered_pages_ * kPageSize);
      if (shipping_.frozen) {
        read_all(buffer);
      } else {
        read_what_is_there(buffer);
      }
      drop_zero_pages(buffer);
    }
    for (const Run& run : gathered_) hand_over(run);
    gathered_.clear();
    gathered_pages_ = 0;
  }

  void hand_over(const Run& run) {
    switch (run.what) {
      case Run::What::kContents:
        sink_.add_pages(run.range, run.may_be_lazy);
        counts_.written += run.range.pages;
        break;
      case Run::What::kInParent:
        sink_.add_in_parent(run.range);
        break;
      case Run::What::kLazy:
        sink_.add_lazy(run.range);
        break;
    }
  }

  void read_all(std::span<std::byte> buffer) {
    std::vector<tracee::RemoteRange> ranges;
    for (const Run& run : gathered_) {
      if (run.has_contents())
        ranges.push_back({tracee::RemoteAddress{run.range.address}, run.range.pages * kPageSize});
    }
    memory_.read_ranges(ranges, buffer);
  }

  // Some pages may have gone since they were found. Those that are left close up in the buffer.
  void read_what_is_there(std::span<std::byte> buffer) {
    std::vector<Run> found;
    size_t used = 0;
    for (Run run : gathered_) {
      if (!run.has_contents()) found.push_back(run);
      while (run.has_contents() && run.range.pages > 0) {
        auto place = buffer.subspan(used, run.range.pages * kPageSize);
        uint64_t got = memory_.read_up_to(tracee::RemoteAddress{run.range.address}, place) / kPageSize;
        if (got > 0) {
          found.push_back(run);
          found.back().range.pages = got;
        }
        used += got * kPageSize;
        uint64_t passed = std::min(got + 1, run.range.pages);
        run.range.address += passed * kPageSize;
        run.range.pages -= passed;
      }
    }
    gathered_ = std::move(found);
  }

  // Takes the pages of zeros out of the buffer and out of the runs.
  void drop_zero_pages(std::span<std::byte> buffer) {
    std::vector<Run> kept;
    size_t from = 0, to = 0;
    for (const Run& run : gathered_) {
      if (!run.has_contents()) {
        kept.push_back(run);
        continue;
      }
      bool joins = false;  // whether the page before is in the last of `kept`
      for (uint64_t page = 0; page < run.range.pages; ++page, from += kPageSize) {
        auto contents = buffer.subspan(from, kPageSize);
        if (run.drop_zero && all_zero(contents)) {
          ++counts_.zero;
          joins = false;
          continue;
        }
        if (from != to) std::memcpy(buffer.data() + to, contents.data(), kPageSize);
        to += kPageSize;
        if (joins) {
          ++kept.back().range.pages;
        } else {
          kept.push_back(run);
          kept.back().range = {run.range.address + page * kPageSize, 1};
          joins = true;
        }
      }
    }
    gathered_ = std::move(kept);
  }

  tracee::RemoteMemory memory_;
  Shipping shipping_;
  bool has_parent_;
  kinds::PageSink& sink_;
  bool drop_zero_ = false;
  std::vector<Run> gathered_;
  uint64_t gathered_pages_ = 0;
  PageCounts counts_;
};

}  // namespace

PageCounts& PageCounts::operator+=(const PageCounts& other) {
  scanned += other.scanned;
  in_parent += other.in_parent;
  written += other.written;
  lazy += other.lazy;
  zero += other.zero;
  return *this;
}

std::vector<AreaPages> find_owned_pages(pid_t pid, const pb::mm_entry& mm, DirtyTracker& tracker,
                                        tracee::RemoteCaller& caller, tracee::Tracee& leader) {
  std::vector<AreaPages> areas;
  tracker.begin_process(pid, caller, leader);
  for (const auto& vma : mm.vmas()) {
    if (!has_private_pages(vma)) continue;
    AreaPages area{vma, {}};
    if (has_status(vma, kVmaVdso)) {
      // The kernel's own pages: owned by nobody, and always sent along.
      area.owned.push_back({vma.start(), vma.end(), kernel::kPageWritten});
    } else {
      tracker.owned_pages(vma, area.owned);
    }
    if (!area.owned.empty()) areas.push_back(std::move(area));
  }
  tracker.end_process();
  return areas;
}

PageCounts ship_pages(pid_t pid, const std::vector<AreaPages>& areas, Shipping shipping,
                      kinds::PageSink& sink) {
  ErrorContext context{"memory of pid {}", pid};
  bool has_parent = sink.open({kinds::PageImageId::Type::kTask, static_cast<uint64_t>(pid)});
  Shipper shipper(pid, shipping, has_parent, sink);
  for (const auto& area : areas) shipper.ship(area);
  shipper.finish();
  sink.close();
  return shipper.counts();
}

}  // namespace godwit::memory
