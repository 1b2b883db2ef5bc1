// How long a dump into a tmpfs holds its guest, against writing the same bytes into a fresh file there.
#include "bench/bench_guest.h"
#include "bench/raw_limits.h"
#include "engine/images/stats.h"

namespace godwit::bench {
namespace {

void dump_bench(const Settings& settings) {
  BenchGuest guest(settings);
  std::vector<double> gaps;
  auto dump = [&] {
    std::string images = guest.fresh_directory("images");
    guest.obey(Order::kWatch);
    run_criu({"dump", "-t", std::to_string(guest.pid()), "-D", images, "-R"}, guest.path("dump.out"));
    guest.obey(Order::kNone);
    auto statistics = images::read_dump_stats(images::ImageDirectory::open(images));
    guest.remove("images");
    double frozen = statistics.frozen_time() / 1000.0;
    gaps.push_back(static_cast<double>(guest.board().longest_gap_ns) / 1e6 / frozen);
    return frozen;
  };
  auto rounds = measure(
      settings, [&] { return tmpfs_write_ms(guest.path("raw"), settings.bytes); }, dump);
  print(settings, {"dump, frozen", "ms frozen", "ms tmpfs write", Bound::kAtMost, 1.2}, rounds);
  Spread gap = spread(gaps);
  remark(settings, fmt::format("the guest's own longest gap: {:.3f} x frozen_time ({:.3f} .. {:.3f})",
                               gap.median, gap.minimum, gap.maximum));
}

}  // namespace
}  // namespace godwit::bench

int main(int argc, char** argv) {
  return godwit::bench::run_benchmark(argc, argv, godwit::bench::dump_bench);
}
