#pragma once

#include <chrono>
#include <cstdint>

namespace godwit::lazypages {

// How many pages nobody waits for yet may be on their way. Answers come in the order of the requests, so a
// fault waits behind all of them: the window is what the connection drains in a fraction of a millisecond
// while faults happen, and more while none do. It finds that size by itself, from the time that answers take.
class BackgroundWindow {
 public:
  using Clock = std::chrono::steady_clock;
  using Duration = Clock::duration;

  static constexpr uint64_t kLeastPages = 4;   // of one request
  static constexpr uint64_t kBusyPages = 40;   // the most while faults come
  static constexpr uint64_t kMostPages = 128;  // the most while none do
  // How much longer than a round trip the answer to a request may take.
  static constexpr Duration kBusyDelay = std::chrono::microseconds(200);
  static constexpr Duration kIdleDelay = std::chrono::microseconds(1000);
  // How long after a fault the next one is expected.
  static constexpr Duration kBusyTime = std::chrono::milliseconds(20);

  // How long the connection is left to the faults, while they come, between two turns of the background: most
  // of them then meet nothing on their way.
  static constexpr Duration kBetweenTurns = std::chrono::microseconds(400);

  // The most pages of the next request; 0: not now. While faults come, the requests of one turn together are
  // no larger than this window and the next turn waits for their answers; else two are on their way at a
  // time, so that the source works on one while we place the other.
  uint64_t next_request(Clock::time_point now) const;
  // Whether that is 0 only until the next turn.
  bool waits_for_turn(Clock::time_point now) const { return in_flight_ == 0 && next_request(now) == 0; }
  void sent(uint64_t pages, Clock::time_point now);
  // The oldest request of sent() was answered `took` after it was sent.
  void answered(Duration took, Clock::time_point now);
  // A fault was asked for.
  void fault(Clock::time_point now);
  // A request of one page, which a fault waited for, was answered while nothing else was on its way: the
  // round trip as it is at best.
  void round_trip(Duration took);

 private:
  bool is_busy(Clock::time_point now) const { return now - last_fault_ < kBusyTime; }

  uint64_t pages_ = kBusyPages;
  unsigned in_flight_ = 0;
  uint64_t left_ = 0;  // of this turn, in pages
  Duration round_trip_ = std::chrono::microseconds(100);
  Clock::time_point last_fault_{}, last_answer_{};
};

}  // namespace godwit::lazypages
