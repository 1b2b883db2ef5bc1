// exec to exit of criu restore -d, against copying the same bytes into fresh anonymous memory.
#include "bench/bench_guest.h"
#include "bench/raw_limits.h"
#include "engine/base/error.h"

namespace godwit::bench {
namespace {

void restore_bench(const Settings& settings) {
  BenchGuest guest(settings);
  std::string images = guest.fresh_directory("images");
  run_criu({"dump", "-t", std::to_string(guest.pid()), "-D", images}, guest.path("dump.out"));
  guest.reap();
  AnonymousCopy copy(settings.bytes);
  auto restore = [&] {
    double took = run_criu({"restore", "-D", images, "-d"}, guest.path("restore.out"));
    guest.adopt();
    guest.obey(Order::kTouch);
    if (guest.board().wrong_pages != 0) throw Error("{} pages are wrong", guest.board().wrong_pages.load());
    guest.end();
    return took;
  };
  auto rounds = measure(
      settings, [&] { return copy.run_ms(); }, restore);
  print(settings, {"restore", "ms exec to exit", "ms copy", Bound::kAtMost, 1.25}, rounds);
}

}  // namespace
}  // namespace godwit::bench

int main(int argc, char** argv) {
  return godwit::bench::run_benchmark(argc, argv, godwit::bench::restore_bench);
}
