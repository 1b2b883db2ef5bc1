#include "migrate/convergence.h"

#include <doctest/doctest.h>

namespace godwit::migrate {
namespace {

RoundFacts round(uint64_t pages, double seconds, double since_last_scan = 0) {
  return {.pages = pages, .seconds = seconds, .since_last_scan = since_last_scan, .frozen = 0.002};
}

TEST_CASE("the first round says nothing about the dirty rate") {
  Convergence convergence({.downtime = 10}, {.resident_pages = 1000});
  CHECK(convergence.add(round(1000, 1)) == Decision::kNextRound);
  CHECK_FALSE(convergence.forecast().dirty_rate);
  CHECK_FALSE(convergence.forecast().downtime);
  CHECK(convergence.forecast().link_rate == doctest::Approx(1000));
}

TEST_CASE("rounds end when what is left fits the limit") {
  Convergence convergence({.downtime = 0.3}, {.round_trip = 0.001, .resident_pages = 10'000, .tasks = 4});
  CHECK(convergence.add(round(10'000, 1)) == Decision::kNextRound);
  // 100 pages a second, so 1 page while the round took 10 ms.
  CHECK(convergence.add(round(100, 0.01, 1)) == Decision::kConverged);
  CHECK(*convergence.forecast().dirty_rate == doctest::Approx(100));
  CHECK(*convergence.forecast().pages_left == 1);
}

TEST_CASE("fixed costs count: round trips, threads, pages to fill in") {
  auto downtime = [](FixedCosts costs) {
    Convergence convergence({.downtime = 1e-9}, costs);
    convergence.add(round(1000, 1));
    convergence.add(round(10, 0.01, 1));
    return *convergence.forecast().downtime;
  };
  double base = downtime({});
  CHECK(downtime({.round_trip = 0.1}) == doctest::Approx(base + 0.6));
  CHECK(downtime({.tasks = 101}) > base + 0.1);
  CHECK(downtime({.resident_pages = 1'000'000}) > base + 1);
}

TEST_CASE("a tree that outruns the link stops without progress") {
  Convergence convergence({.downtime = 0.3, .max_rounds = 30}, {.resident_pages = 1'000'000});
  CHECK(convergence.add(round(1'000'000, 10)) == Decision::kNextRound);
  CHECK(convergence.add(round(900'000, 9, 10)) == Decision::kNextRound);
  CHECK(convergence.add(round(850'000, 8.5, 9)) == Decision::kNoProgress);
  CHECK(reason_of(Decision::kNoProgress) == "the last round did not improve");
}

TEST_CASE("progress goes on until --max-rounds") {
  Convergence convergence({.downtime = 1e-9, .max_rounds = 3}, {.resident_pages = 100'000});
  CHECK(convergence.add(round(100'000, 10)) == Decision::kNextRound);
  CHECK(convergence.add(round(50'000, 5, 10)) == Decision::kNextRound);
  CHECK(convergence.add(round(25'000, 2.5, 5)) == Decision::kMaxRounds);
}

TEST_CASE("a round of a few pages does not count as a measurement of the link") {
  Convergence convergence({}, {.resident_pages = 100'000});
  convergence.add(round(100'000, 1));
  convergence.add(round(3, 0.05, 1));
  CHECK(convergence.forecast().link_rate == doctest::Approx(100'000));
}

TEST_CASE("never more is expected to be left than there is") {
  Convergence convergence({}, {.resident_pages = 500});
  convergence.add(round(500, 1));
  convergence.add(round(500, 10, 0.1));
  CHECK(*convergence.forecast().pages_left == 500);
}

}  // namespace
}  // namespace godwit::migrate
