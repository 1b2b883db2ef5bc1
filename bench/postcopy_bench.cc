// A guest moves by post-copy over loopback into a pid namespace of its own, and touches each page once in
// random order: how long touches waited for their page, against what one question over the network and one
// userfaultfd fault cost, and when the last page was there.
#include <fcntl.h>

#include <algorithm>
#include <sstream>
#include <thread>

#include "bench/bench_guest.h"
#include "bench/raw_limits.h"
#include "engine/base/error.h"
#include "engine/base/units.h"

namespace godwit::bench {
namespace {

constexpr size_t kSamples = 5000;

// Percentiles of what had to wait, us.
struct Waits {
  double p50 = 0, p99 = 0;
};

struct Move {
  Waits waits;
  double touches_that_waited = 0;
  double restore_s = 0, last_page_s = 0;  // from the start of the restore
};

Waits raw_waits() {
  auto round_trips = round_trips_us(kSamples), faults = local_faults_us(kSamples);
  return {percentile(round_trips, 0.5) + percentile(faults, 0.5),
          percentile(round_trips, 0.99) + percentile(faults, 0.99)};
}

// Waits for the file in which the destination tells how it went; the limit only catches hangs.
void read_moments(const std::string& work, Move& move) {
  auto start = Clock::now();
  for (;;) {
    if (auto text = read_file_if_exists(AT_FDCWD, work + "/failed")) {
      throw Error("{}{}{}", *text, read_file_if_exists(AT_FDCWD, work + "/restore.log").value_or(""),
                  read_file_if_exists(AT_FDCWD, work + "/lazy-pages.log").value_or(""));
    }
    if (auto text = read_file_if_exists(AT_FDCWD, work + "/moments")) {
      double started = 0, restored = 0, complete = 0;
      std::istringstream(*text) >> started >> restored >> complete;
      move.restore_s = (restored - started) / 1e9;
      move.last_page_s = (complete - started) / 1e9;
      return;
    }
    if (milliseconds_since(start) > 180'000) throw Error("the pages do not come");
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

void read_waits(Board& board, Move& move) {
  if (board.wrong_pages != 0) throw Error("{} pages are wrong", board.wrong_pages.load());
  std::vector<double> waits;
  for (uint64_t i = 0; i < board.waits; ++i) waits.push_back(wait_times(board)[i] / 1000.0);
  std::sort(waits.begin(), waits.end());
  move.waits = {percentile(waits, 0.5), percentile(waits, 0.99)};
  move.touches_that_waited = static_cast<double>(waits.size());
}

Move move_guest(const Settings& settings) {
  BenchGuest guest(settings);
  std::string images = guest.fresh_directory("images"), work = guest.fresh_directory("work");
  std::string port = std::to_string(free_port());
  ReadyPipe ready;
  auto source =
      start_criu({"dump", "-t", std::to_string(guest.pid()), "-D", images, "--lazy-pages", "--address",
                  "127.0.0.1", "--port", port, "--status-fd", std::to_string(kPassedFd)},
                 guest.path("dump.out"), ready.write_end());
  ready.wait();
  guest.leave_order(Order::kTouch);
  Move move;
  {
    Program destination(
        {"/usr/bin/unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "--",
         GODWIT_SOURCE_DIR "/bench/destination.sh", GODWIT_BUILD_DIR "/criu", images, work, port},
        guest.path("destination.out"));
    read_moments(work, move);
    source.succeed();
    guest.reap();
    if (!guest.wait_until_done()) throw Error("the guest does not finish its touches");
    read_waits(guest.board(), move);
  }
  reap_all();
  return move;
}

void postcopy_bench(const Settings& settings) {
  std::vector<Round> p50, p99, last_page;
  std::vector<double> parts;
  for (int i = 0; i <= settings.rounds; ++i) {
    warm_memory(2 * settings.bytes);
    Waits raw = raw_waits();
    Move move = move_guest(settings);
    if (i == 0) continue;
    p50.push_back({raw.p50, move.waits.p50, move.waits.p50 / raw.p50});
    p99.push_back({raw.p99, move.waits.p99, move.waits.p99 / raw.p99});
    last_page.push_back({move.restore_s, move.last_page_s, move.last_page_s});
    parts.push_back(100 * move.touches_that_waited * kPageSize / static_cast<double>(settings.bytes));
  }
  print(settings, {"post-copy wait p50", "us waited", "us round trip + fault", Bound::kAtMost, 2.4}, p50);
  print(settings, {"post-copy wait p99", "us waited", "us round trip + fault"}, p99);
  print(settings, {"post-copy, last page", "s from restore", "s restore alone", Bound::kAtMost, 20, "s"},
        last_page);
  Spread part = spread(parts);
  remark(settings, fmt::format("touches that waited: {:.1f} % ({:.1f} .. {:.1f})", part.median, part.minimum,
                               part.maximum));
}

}  // namespace
}  // namespace godwit::bench

int main(int argc, char** argv) {
  return godwit::bench::run_benchmark(argc, argv, godwit::bench::postcopy_bench);
}
