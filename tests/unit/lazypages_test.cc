#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "engine/base/units.h"
#include "lazypages/background_window.h"
#include "lazypages/latency_histogram.h"
#include "lazypages/missing_pages.h"
#include "lazypages/page_schedule.h"
#include "lazypages/prediction.h"
#include "lazypages/range_set.h"
#include "lazypages/statistics.h"

namespace godwit::lazypages {
namespace {

using kinds::PageRange;
using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr uint64_t page(uint64_t number) {
  return number * kPageSize;
}
constexpr PageRange pages(uint64_t first, uint64_t count) {
  return {page(first), count};
}

TEST_CASE("a range set agrees with a set of pages") {
  RangeSet ranges;
  std::set<uint64_t> model;
  std::mt19937 random(7);
  for (int round = 0; round < 3000; ++round) {
    PageRange range = pages(random() % 200, random() % 20);
    bool add = random() % 2 == 0;
    add ? ranges.add(range) : ranges.remove(range);
    for (uint64_t i = 0; i < range.pages; ++i) {
      if (add) {
        model.insert(range.address + page(i));
      } else {
        model.erase(range.address + page(i));
      }
    }
    uint64_t probe = page(random() % 220);
    REQUIRE(ranges.contains(probe) == model.contains(probe));
    auto next = model.lower_bound(probe);
    REQUIRE(ranges.next(probe) == (next == model.end() ? std::nullopt : std::optional(*next)));
    if (auto end = ranges.end_of(probe)) {
      REQUIRE(model.contains(*end - kPageSize));
      REQUIRE_FALSE(model.contains(*end));
    }
    REQUIRE(ranges.empty() == model.empty());
  }
}

TEST_CASE("missing pages follow removals and moves") {
  MissingPages missing;
  missing.add(pages(0, 100));
  missing.add(pages(300, 100));
  std::map<uint64_t, uint64_t> model;  // address -> image address
  for (uint64_t i = 0; i < 100; ++i) model[page(i)] = page(i), model[page(300 + i)] = page(300 + i);
  std::mt19937 random(11);
  for (int round = 0; round < 400 && !model.empty(); ++round) {
    PageRange range = pages(random() % 500, 1 + random() % 12);
    std::map<uint64_t, uint64_t> cut;
    auto take = [&](PageRange where) {
      std::map<uint64_t, uint64_t> taken;
      for (uint64_t i = 0; i < where.pages; ++i) {
        if (auto node = model.extract(where.address + page(i))) taken.insert(std::move(node));
      }
      return taken;
    };
    if (random() % 3 != 0) {
      // mremap never moves to a place that overlaps the old one.
      uint64_t to = range.address + page(600 + random() % 100);
      if (random() % 2 == 0 && range.address >= page(100)) to = range.address - page(50 + random() % 50);
      missing.move(range, to);
      cut = take(range);
      take({to, range.pages});
      for (auto [address, image] : cut) model[to + (address - range.address)] = image;
    } else {
      missing.remove(range);
      take(range);
    }
    REQUIRE(missing.pages() == model.size());
    uint64_t at = 0;
    for (auto [address, image] : model) {
      REQUIRE(missing.image_of(address) == image);
      REQUIRE(missing.next(at)->address == address);
      at = address + kPageSize;
      auto runs = missing.of_image({image, 1});
      REQUIRE(runs == std::vector<MissingRun>{{address, 1, image}});
    }
    REQUIRE_FALSE(missing.next(at));
  }
}

TEST_CASE("a range of the image is found wherever its pages have gone") {
  MissingPages missing;
  missing.add(pages(10, 10));
  missing.move(pages(14, 2), page(50));
  missing.remove(pages(17, 1));
  CHECK(missing.of_image(pages(8, 20)) == std::vector<MissingRun>{{page(10), 4, page(10)},
                                                                  {page(50), 2, page(14)},
                                                                  {page(16), 1, page(16)},
                                                                  {page(18), 2, page(18)}});
  CHECK(missing.of_image(pages(15, 1)) == std::vector<MissingRun>{{page(51), 1, page(15)}});
  MissingPages child = missing;  // a fork
  missing.remove(pages(0, 100));
  CHECK(missing.empty());
  CHECK(child.pages() == 9);
}

struct Scheduled {
  MissingPages missing;
  Prediction prediction;
  uint64_t cursor = 0;
  PageSchedule schedule;

  std::optional<PageSchedule::Choice> next(uint64_t most = 8) {
    return schedule.next_background(missing, prediction, cursor, most);
  }
  void arrive(PageRange range) {
    schedule.settled(range);
    missing.remove(range);
  }
};

TEST_CASE("a page that is on its way is not asked for again") {
  Scheduled s;
  s.missing.add(pages(0, 20));
  CHECK(s.next()->range == pages(0, 8));
  s.schedule.want(page(3));  // comes with the background
  CHECK_FALSE(s.schedule.next_wanted());
  s.schedule.want(page(10));
  s.schedule.want(page(10));  // two threads
  CHECK(s.schedule.next_wanted() == pages(10, 1));
  CHECK_FALSE(s.schedule.next_wanted());
  CHECK(s.next()->range == pages(8, 2));  // up to the wanted page
  CHECK(s.next()->range == pages(11, 8));
  CHECK(s.next()->range == pages(19, 1));
  CHECK_FALSE(s.next());
}

TEST_CASE("every page is asked for once, whatever faults") {
  Scheduled s;
  s.missing.add(pages(0, 500));
  s.missing.add(pages(700, 300));
  std::mt19937 random(3);
  std::map<uint64_t, int> asked;
  std::vector<PageRange> on_their_way;
  auto ask = [&](PageRange range) {
    for (uint64_t i = 0; i < range.pages; ++i) ++asked[range.address + page(i)];
    on_their_way.push_back(range);
  };
  while (!s.missing.empty()) {
    if (auto image = s.missing.image_of(page(random() % 1000))) {
      s.prediction.fault(*image);
      s.schedule.want(*image);
      if (auto wanted = s.schedule.next_wanted()) ask(*wanted);
    }
    if (auto choice = s.next(1 + random() % 30)) ask(choice->range);
    while (!on_their_way.empty() && random() % 3 != 0) {
      s.arrive(on_their_way.front());
      on_their_way.erase(on_their_way.begin());
    }
  }
  CHECK(asked.size() == 800);
  CHECK(std::all_of(asked.begin(), asked.end(), [](auto entry) { return entry.second == 1; }));
}

TEST_CASE("what follows a fault comes before the sweep, and the sweep comes round") {
  Scheduled s;
  s.missing.add(pages(0, 100));
  CHECK(s.next()->reason == Reason::kSweep);
  s.prediction.fault(page(50));
  s.schedule.want(page(50));
  CHECK(s.schedule.next_wanted() == pages(50, 1));
  auto predicted = s.next();
  CHECK(predicted->reason == Reason::kPrediction);
  CHECK(predicted->range == pages(51, 8));
  CHECK(s.next()->range == pages(59, 7));  // 64 KiB with the page itself
  auto sweep = s.next();
  CHECK(sweep->reason == Reason::kSweep);
  CHECK(sweep->range == pages(8, 8));
  s.cursor = page(90);
  CHECK(s.next(100)->range == pages(90, 10));
  CHECK(s.next(100)->range == pages(16, 34));
}

TEST_CASE("a moved page is asked for under the address of the image") {
  Scheduled s;
  s.missing.add(pages(10, 4));
  s.missing.move(pages(10, 4), page(90));
  CHECK(s.next(2)->range == pages(10, 2));
  s.schedule.want(*s.missing.image_of(page(93)));
  CHECK(s.schedule.next_wanted() == pages(13, 1));
}

TEST_CASE("after a lost connection nothing is on its way") {
  Scheduled s;
  s.missing.add(pages(0, 4));
  s.next();
  s.schedule.want(page(9));
  s.schedule.forget_requests();
  CHECK_FALSE(s.schedule.is_on_its_way(page(0)));
  CHECK_FALSE(s.schedule.next_wanted());
}

TEST_CASE("predictions reach further the longer a run goes on") {
  Prediction prediction;
  CHECK_FALSE(prediction.range());
  prediction.fault(page(100));
  CHECK(prediction.range() == pages(101, 15));
  prediction.asked_until(page(116));
  CHECK_FALSE(prediction.range());
  prediction.fault(page(116));
  CHECK(prediction.range() == pages(117, 31));
  prediction.fault(page(140));
  CHECK(prediction.range() == pages(141, 63));
  prediction.fault(page(7));  // somewhere else
  CHECK(prediction.range() == pages(8, 15));
}

struct Exchange {
  BackgroundWindow window;
  BackgroundWindow::Clock::time_point now{std::chrono::hours(1)};

  uint64_t next() const { return window.next_request(now); }
  void run(int times, microseconds took, bool faults) {
    for (int i = 0; i < times; ++i) {
      if (faults) window.fault(now);
      now += BackgroundWindow::kBetweenTurns;
      REQUIRE(next() > 0);  // never stops
      window.sent(next(), now);
      now += took;
      window.answered(took, now);
    }
  }
};

TEST_CASE("background requests shrink while faults come and grow while none do") {
  Exchange exchange;
  exchange.window.round_trip(microseconds(60));
  exchange.run(100, microseconds(100), false);
  CHECK(exchange.next() == BackgroundWindow::kMostPages);
  exchange.window.fault(exchange.now);
  exchange.now += BackgroundWindow::kBetweenTurns;
  CHECK(exchange.next() == BackgroundWindow::kBusyPages);
  exchange.run(100, milliseconds(2), true);
  exchange.now += BackgroundWindow::kBetweenTurns;
  CHECK(exchange.next() == BackgroundWindow::kLeastPages);
  exchange.run(100, microseconds(50), true);
  exchange.now += BackgroundWindow::kBetweenTurns;
  CHECK(exchange.next() == BackgroundWindow::kBusyPages);
  exchange.run(100, milliseconds(5), false);  // a slow link
  CHECK(exchange.next() == BackgroundWindow::kLeastPages);
}

TEST_CASE("one background request is on its way while faults come, else two") {
  Exchange exchange;
  exchange.window.sent(exchange.next(), exchange.now);
  CHECK(exchange.next() > 0);
  exchange.window.sent(exchange.next(), exchange.now);
  CHECK(exchange.next() == 0);
  exchange.window.answered(microseconds(100), exchange.now);
  CHECK(exchange.next() > 0);
  exchange.window.fault(exchange.now);
  CHECK(exchange.next() == 0);
  exchange.now += 2 * BackgroundWindow::kBusyTime;
  CHECK(exchange.next() > 0);
}

TEST_CASE("a turn of the background may be several requests") {
  Exchange exchange;
  exchange.window.fault(exchange.now);
  uint64_t turn = exchange.next();
  REQUIRE(turn > 15);
  exchange.window.sent(15, exchange.now);  // what was predicted
  CHECK(exchange.next() == turn - 15);
  exchange.window.sent(turn - 15, exchange.now);
  CHECK(exchange.next() == 0);
  exchange.window.answered(microseconds(50), exchange.now);
  CHECK(exchange.next() == 0);
}

TEST_CASE("most faults meet no background request") {
  Exchange exchange;
  exchange.window.fault(exchange.now);
  exchange.window.sent(exchange.next(), exchange.now);
  exchange.window.answered(microseconds(50), exchange.now);
  for (int i = 0; i < 10; ++i) {
    exchange.window.fault(exchange.now);
    CHECK(exchange.next() == 0);
    CHECK(exchange.window.waits_for_turn(exchange.now));
    exchange.now += BackgroundWindow::kBetweenTurns / 10;
  }
  CHECK(exchange.next() > 0);
  CHECK_FALSE(exchange.window.waits_for_turn(exchange.now));
}

TEST_CASE("quantiles are within an eighth of the truth") {
  LatencyHistogram histogram;
  CHECK(histogram.quantile(0.5).count() == 0);
  for (int i = 1; i <= 1000; ++i) histogram.record(microseconds(i));
  CHECK(histogram.count() == 1000);
  CHECK(histogram.longest() == microseconds(1000));
  for (double fraction : {0.01, 0.5, 0.9, 0.99}) {
    auto found = static_cast<double>(histogram.quantile(fraction).count()) / 1e6;
    CHECK(found >= fraction);
    CHECK(found <= fraction * 1.13);
  }
  CHECK(histogram.quantile(1).count() == 1'000'000);
  histogram.record(std::chrono::hours(10));
  CHECK(histogram.quantile(1) == std::chrono::hours(10));
}

TEST_CASE("the statistics say what came and why") {
  Statistics statistics;
  statistics.count(Reason::kFault, 1);
  statistics.count(Reason::kPrediction, 15);
  statistics.count(Reason::kSweep, 240);
  statistics.waits.record(microseconds(100));
  statistics.transfer = milliseconds(500);
  std::string text = describe(statistics);
  CHECK(text.find("Pages received: 256 (for faults 1, predicted 15, in the background 240)") !=
        std::string::npos);
  CHECK(text.find("0.500 s, 2.0 MiB/s") != std::string::npos);
  CHECK(text.find("Waits: p50 100 us") != std::string::npos);
}

}  // namespace
}  // namespace godwit::lazypages
