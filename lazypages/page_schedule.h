#pragma once

#include <cstdint>
#include <deque>
#include <optional>

#include "engine/kinds/page_sink.h"
#include "lazypages/missing_pages.h"
#include "lazypages/prediction.h"
#include "lazypages/range_set.h"

namespace godwit::lazypages {

// Why a page is asked for.
enum class Reason { kFault, kPrediction, kSweep };

// Decides which pages of one image are asked for next, none of them twice at a time. An image is what the
// page server calls a pid: the pages of one dumped process, which its later children wait for too. Only
// decides; sending and placing are the daemon's. Ranges are image addresses.
class PageSchedule {
 public:
  // Somebody waits for this page. Nothing happens when it is on its way.
  void want(uint64_t image);
  // The next page that somebody waits for; it is on its way from now on.
  std::optional<kinds::PageRange> next_wanted();

  struct Choice {
    kinds::PageRange range;
    Reason reason = Reason::kSweep;
  };
  // At most so many missing pages that nobody waits for yet: what the prediction says, then on from where the
  // sweep of this address space stands (`cursor`, which moves). They are on their way from now on.
  std::optional<Choice> next_background(const MissingPages& missing, Prediction& prediction, uint64_t& cursor,
                                        uint64_t most);

  // These have been placed, or they do not come.
  void settled(kinds::PageRange range) { on_their_way_.remove(range); }
  bool is_on_its_way(uint64_t image) const { return on_their_way_.contains(image); }
  // The connection is lost.
  void forget_requests();

 private:
  // The first missing pages between two addresses that are not on their way.
  std::optional<MissingRun> find(const MissingPages& missing, uint64_t from, uint64_t to,
                                 uint64_t most) const;

  RangeSet on_their_way_;
  std::deque<uint64_t> wanted_;
};

}  // namespace godwit::lazypages
