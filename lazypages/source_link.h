#pragma once

#include <chrono>
#include <deque>
#include <optional>
#include <span>

#include "lazypages/background_window.h"
#include "lazypages/page_schedule.h"
#include "pageserver/lazy_client.h"

namespace godwit::lazypages {

// The connection to the page server, and what is on its way over it. Throws as LazyClient when it is lost.
class SourceLink {
 public:
  using Clock = std::chrono::steady_clock;

  explicit SourceLink(pageserver::LazyClient client)
      : client_(std::move(client)), last_arrival_(Clock::now()) {}

  void request(uint64_t pid, kinds::PageRange range, Reason reason);
  // How many pages that nobody waits for may be requested now; 0: none.
  uint64_t background_pages() const { return window_.next_request(Clock::now()); }

  // Whether some may be requested after BackgroundWindow::kBetweenTurns.
  bool waits_for_turn() const { return window_.waits_for_turn(Clock::now()); }

  struct Arrival {
    uint64_t pid = 0;
    kinds::PageRange asked, came;      // it starts where asked starts and may end earlier
    std::span<const std::byte> bytes;  // of `came`; valid until the next one
    Reason reason = Reason::kSweep;
  };
  // Never waits. After nothing, poll fd().
  std::optional<Arrival> receive_if_ready();
  // Takes the answers that are left, for tasks that have ended; tells the source that everything is here, and
  // waits for its confirmation. Throws also tls::TimeoutError.
  void close();

  // Requests that a fault waits for.
  size_t wanted() const { return wanted_; }
  // How long the source has owed an answer without sending any.
  Clock::duration silence(Clock::time_point now) const;
  int fd() const { return client_.fd(); }

 private:
  struct Sent {
    Reason reason;
    bool alone;  // nothing else was on its way
    Clock::time_point time;
  };

  pageserver::LazyClient client_;
  BackgroundWindow window_;
  std::deque<Sent> sent_;  // in the order of the requests, which is that of the answers
  size_t wanted_ = 0;
  Clock::time_point last_arrival_;
};

}  // namespace godwit::lazypages
