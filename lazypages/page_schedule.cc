#include "lazypages/page_schedule.h"

#include <algorithm>
#include <limits>

#include "engine/base/units.h"

namespace godwit::lazypages {

void PageSchedule::want(uint64_t image) {
  if (!is_on_its_way(image)) wanted_.push_back(image);
}

std::optional<kinds::PageRange> PageSchedule::next_wanted() {
  while (!wanted_.empty()) {
    kinds::PageRange page{wanted_.front(), 1};
    wanted_.pop_front();
    if (is_on_its_way(page.address)) continue;  // two threads wait for it
    on_their_way_.add(page);
    return page;
  }
  return std::nullopt;
}

std::optional<PageSchedule::Choice> PageSchedule::next_background(const MissingPages& missing,
                                                                  Prediction& prediction, uint64_t& cursor,
                                                                  uint64_t most) {
  if (auto range = prediction.range()) {
    if (auto run = find(missing, range->address, range->address + range->pages * kPageSize, most)) {
      prediction.asked_until(run->end());
      on_their_way_.add(run->image_range());
      return Choice{run->image_range(), Reason::kPrediction};
    }
    prediction.forget();
  }
  constexpr uint64_t kEnd = std::numeric_limits<uint64_t>::max();
  auto run = find(missing, cursor, kEnd, most);
  if (!run && cursor != 0) run = find(missing, 0, cursor, most);
  if (!run) return std::nullopt;
  cursor = run->end();
  on_their_way_.add(run->image_range());
  return Choice{run->image_range(), Reason::kSweep};
}

void PageSchedule::forget_requests() {
  on_their_way_ = {};
  wanted_.clear();
}

std::optional<MissingRun> PageSchedule::find(const MissingPages& missing, uint64_t from, uint64_t to,
                                             uint64_t most) const {
  while (auto run = missing.next(from)) {
    if (run->address >= to) return std::nullopt;
    uint64_t image_end = run->image + run->pages * kPageSize;
    if (auto busy_end = on_their_way_.end_of(run->image)) {
      from = run->address + (std::min(*busy_end, image_end) - run->image);
      continue;
    }
    if (auto busy = on_their_way_.next(run->image)) image_end = std::min(image_end, *busy);
    uint64_t pages = (std::min(image_end - run->image, to - run->address)) / kPageSize;
    return MissingRun{run->address, std::min(pages, most), run->image};
  }
  return std::nullopt;
}

}  // namespace godwit::lazypages
