#include "lazypages/source_link.h"

#include <algorithm>

namespace godwit::lazypages {
namespace {

constexpr std::chrono::milliseconds kLastAnswers{30'000};

}  // namespace

void SourceLink::request(uint64_t pid, kinds::PageRange range, Reason reason) {
  auto now = Clock::now();
  if (sent_.empty()) last_arrival_ = now;  // the silence before was ours
  client_.send_request(pid, range);
  sent_.push_back({reason, sent_.empty(), now});
  if (reason == Reason::kFault) {
    ++wanted_;
    window_.fault(now);
  } else {
    window_.sent(range.pages, now);
  }
}

std::optional<SourceLink::Arrival> SourceLink::receive_if_ready() {
  auto answer = client_.receive_if_ready();
  if (!answer) return std::nullopt;
  Sent sent = sent_.front();
  sent_.pop_front();
  auto now = Clock::now();
  last_arrival_ = now;
  if (sent.reason == Reason::kFault) {
    --wanted_;
    if (sent.alone) window_.round_trip(now - sent.time);
  } else {
    window_.answered(now - sent.time, now);
  }
  return Arrival{answer->pid, answer->asked, answer->range, answer->bytes, sent.reason};
}

void SourceLink::close() {
  while (client_.outstanding() > 0) client_.receive(kLastAnswers);
  client_.close();
}

SourceLink::Clock::duration SourceLink::silence(Clock::time_point now) const {
  return sent_.empty() ? Clock::duration::zero() : now - last_arrival_;
}

}  // namespace godwit::lazypages
