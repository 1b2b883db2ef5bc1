// How long a pre-dump holds a guest that rewrote all its memory since the last one, against one scan that
// finds and re-arms everything written of the same memory.
#include "bench/bench_guest.h"
#include "engine/base/error.h"
#include "engine/images/stats.h"
#include "engine/kernel/page_map.h"

namespace godwit::bench {
namespace {

// What a pre-dump may need beside the scan: freezing, maps, one batch.
constexpr double kFixedMs = 5;

// The guest's memory is armed by the pre-dump before; the scan arms it again, so it may be measured here.
double scan_ms(BenchGuest& guest, size_t bytes) {
  guest.obey(Order::kRewrite);
  kernel::PageMap pages(guest.pid());
  uint64_t start = guest.board().address;
  std::vector<kernel::PageRegion> found;
  auto before = Clock::now();
  if (!pages.take_written_if_tracked(start, start + bytes, kernel::kOwnedPages, found)) {
    throw Error("the guest's memory is not write-protected asynchronously (this needs Linux 6.7)");
  }
  return milliseconds_since(before);
}

class PreDumps {
 public:
  explicit PreDumps(BenchGuest& guest) : guest_(guest) {}

  // One more round of the chain; returns its frozen time, ms. Only the newest two directories are kept.
  double run() {
    std::string images = guest_.fresh_directory(name(number_));
    std::vector<std::string> words{"pre-dump", "-t", std::to_string(guest_.pid()), "-D", images};
    if (number_ > 0) words.insert(words.end(), {"--prev-images-dir", "../" + name(number_ - 1)});
    guest_.obey(Order::kWatch);
    run_criu(words, guest_.path("pre-dump.out"));
    guest_.obey(Order::kNone);
    if (number_ > 0) guest_.remove(name(number_ - 1));
    auto statistics = images::read_dump_stats(images::ImageDirectory::open(images));
    if (number_ > 0 && statistics.pages_skipped_parent() > statistics.pages_written() / 10) {
      throw Error("{} pages were clean, though all were written", statistics.pages_skipped_parent());
    }
    ++number_;
    return statistics.frozen_time() / 1000.0;
  }

 private:
  static std::string name(int number) { return "pre" + std::to_string(number); }
  BenchGuest& guest_;
  int number_ = 0;
};

void predump_bench(const Settings& settings) {
  BenchGuest guest(settings);
  PreDumps pre_dumps(guest);
  pre_dumps.run();
  std::vector<double> gaps;
  auto rounds = measure(
      settings, [&] { return scan_ms(guest, settings.bytes); },
      [&] {
        guest.obey(Order::kRewrite);
        double frozen = pre_dumps.run();
        gaps.push_back(static_cast<double>(guest.board().longest_gap_ns) / 1e6 - frozen);
        return frozen;
      });
  for (auto& round : rounds) round.value = (round.ours - kFixedMs) / round.raw;
  print(settings, {"pre-dump freeze, less 5 ms", "ms frozen", "ms PAGEMAP_SCAN", Bound::kAtMost, 1.7},
        rounds);
  Spread gap = spread(gaps);
  remark(settings, fmt::format("the guest's own longest gap less frozen_time: {:.1f} ms ({:.1f} .. {:.1f})",
                               gap.median, gap.minimum, gap.maximum));
}

}  // namespace
}  // namespace godwit::bench

int main(int argc, char** argv) {
  return godwit::bench::run_benchmark(argc, argv, godwit::bench::predump_bench);
}
