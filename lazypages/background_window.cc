#include "lazypages/background_window.h"

#include <algorithm>

namespace godwit::lazypages {

uint64_t BackgroundWindow::next_request(Clock::time_point now) const {
  if (!is_busy(now)) return in_flight_ < 2 ? pages_ : 0;
  if (in_flight_ > 0) return left_;
  bool has_turn = now - last_answer_ >= kBetweenTurns;
  return has_turn ? std::min(pages_, kBusyPages) : 0;
}

void BackgroundWindow::sent(uint64_t pages, Clock::time_point now) {
  if (in_flight_++ == 0) left_ = is_busy(now) ? std::min(pages_, kBusyPages) : 0;
  left_ -= std::min(pages, left_);
}

void BackgroundWindow::answered(Duration took, Clock::time_point now) {
  --in_flight_;
  left_ = 0;
  last_answer_ = now;
  Duration allowed = round_trip_ + (is_busy(now) ? kBusyDelay : kIdleDelay);
  uint64_t most = is_busy(now) ? kBusyPages : kMostPages;
  if (took > 2 * allowed) {
    pages_ /= 2;
  } else if (took > allowed) {
    pages_ -= (pages_ + 7) / 8;
  } else if (took < allowed / 2) {
    pages_ += (pages_ + 7) / 8;
  }
  pages_ = std::clamp(pages_, kLeastPages, most);
}

void BackgroundWindow::fault(Clock::time_point now) {
  pages_ = std::min(pages_, kBusyPages);
  last_fault_ = now;
}

void BackgroundWindow::round_trip(Duration took) {
  // Follows a better one at once and a worse one slowly: most samples are late for reasons of their own.
  round_trip_ = took < round_trip_ ? took : round_trip_ + (took - round_trip_) / 16;
}

}  // namespace godwit::lazypages
