#include "lazypages/background_window.h"

#include <algorithm>

namespace godwit::lazypages {

uint64_t BackgroundWindow::next_request() const {
  uint64_t request = pages_ / 2;
  return in_flight_ + request <= pages_ ? request : 0;
}

void BackgroundWindow::answered(uint64_t pages, Duration took, Clock::time_point now) {
  in_flight_ -= pages;
  Duration allowed = round_trip_ + (now - last_fault_ < kBusyTime ? kBusyDelay : kIdleDelay);
  if (took > 2 * allowed) {
    pages_ = std::max(pages_ / 2, kLeastPages);
  } else if (took > allowed) {
    pages_ = std::max(pages_ - pages_ / 8, kLeastPages);
  } else if (took < allowed / 2) {
    pages_ = std::min(pages_ + std::max<uint64_t>(pages_ / 8, 1), kMostPages);
  }
}

void BackgroundWindow::fault(Clock::time_point now) {
  if (now - last_fault_ >= kBusyTime) pages_ = std::min(pages_, kBusyPages);
  last_fault_ = now;
}

void BackgroundWindow::round_trip(Duration took) {
  // Follows a better one at once and a worse one slowly: most samples are late for reasons of their own.
  round_trip_ = took < round_trip_ ? took : round_trip_ + (took - round_trip_) / 16;
}

}  // namespace godwit::lazypages
