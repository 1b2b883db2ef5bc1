#include "engine/memory/page_shipping.h"

#include <algorithm>

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
        sink_.add_in_parent(range);
        counts_.in_parent += range.pages;
      } else if (shipping_.lazy && lazy) {
        sink_.add_lazy(range);
        counts_.lazy += range.pages;
      } else {
        ship_contents(range, lazy);
      }
    }
  }

  const PageCounts& counts() const { return counts_; }

 private:
  void ship_contents(PageRange range, bool may_be_lazy) {
    while (range.pages > 0) {
      uint64_t wanted = std::min(range.pages, kinds::PageSink::kBufferPages);
      auto buffer = sink_.buffer().first(wanted * kPageSize);
      uint64_t got = memory_.read_up_to(tracee::RemoteAddress{range.address}, buffer) / kPageSize;
      if (got == 0 && shipping_.frozen) {
        throw Error("pid {}: the page at {:#x} cannot be read", memory_.pid(), range.address);
      }
      if (got > 0) add(PageRange{range.address, got}, buffer, may_be_lazy);
      uint64_t passed = std::max<uint64_t>(got, 1);
      range.address += passed * kPageSize;
      range.pages -= passed;
    }
  }

  // Hands over what stands in the buffer, without its zero pages where those can be left out.
  void add(PageRange range, std::span<std::byte> contents, bool may_be_lazy) {
    auto is_zero = [&](uint64_t page) { return all_zero(contents.subspan(page * kPageSize, kPageSize)); };
    uint64_t whole = 0;
    while (whole < range.pages && !(drop_zero_ && is_zero(whole))) ++whole;
    if (whole == range.pages) {
      sink_.add_pages(range, may_be_lazy);
      counts_.written += range.pages;
      return;
    }
    // The buffer is given back with the first run, so the runs between zeros are handed over from a copy.
    std::vector<std::byte> copy(contents.begin(),
                                contents.begin() + static_cast<ptrdiff_t>(range.pages * kPageSize));
    contents = copy;
    for (uint64_t page = 0; page < range.pages;) {
      uint64_t end = page;
      while (end < range.pages && !is_zero(end)) ++end;
      if (end > page) {
        sink_.add_contents({range.address + page * kPageSize, end - page},
                           contents.subspan(page * kPageSize, (end - page) * kPageSize), may_be_lazy);
        counts_.written += end - page;
      }
      for (page = end; page < range.pages && is_zero(page); ++page) ++counts_.zero;
    }
  }

  tracee::RemoteMemory memory_;
  Shipping shipping_;
  bool has_parent_;
  kinds::PageSink& sink_;
  bool drop_zero_ = false;
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
  sink.close();
  return shipper.counts();
}

}  // namespace godwit::memory
