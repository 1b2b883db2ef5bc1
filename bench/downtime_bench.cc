// The fixed cost of a live move: how long an idle guest of a few megabytes stood still in `migrate run`, as
// it saw it itself, with an agent in a pid namespace of its own. The raw number is what starting and ending
// one process costs here; there is no limit to compare with.
#include <fcntl.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "bench/bench_guest.h"
#include "engine/base/error.h"
#include "engine/base/units.h"
#include "tests/support/certificates.h"

namespace godwit::bench {
namespace {

std::vector<std::string> tls_options(const test::CertificateAuthority& authority,
                                     const test::CertificateFiles& files) {
  return {"--tls-cacert", authority.certificate(), "--tls-cert", files.certificate, "--tls-key", files.key};
}

struct Move {
  double gap_ms = 0;   // as the guest saw it
  double told_ms = 0;  // as migrate reports it
};

class Mover {
 public:
  explicit Mover(const Settings& settings, const std::string& directory)
      : settings_(settings), authority_(directory, "bench") {
    agent_ = tls_options(authority_, authority_.issue({.name = "agent", .ip_addresses = {"127.0.0.1"}}));
    source_ = tls_options(authority_, authority_.issue({.name = "source", .ip_addresses = {"127.0.0.1"}}));
  }

  Move run() {
    Move move;
    {
      BenchGuest guest(settings_);
      std::string port = std::to_string(free_port());
      Program agent = start_agent(guest, port);
      // Standard error apart: standard output is the report.
      std::vector<std::string> words{"/bin/sh",
                                     "-c",
                                     "exec \"$@\" 2>" + guest.path("run.log"),
                                     "sh",
                                     GODWIT_BUILD_DIR "/migrate",
                                     "run",
                                     "--tree",
                                     std::to_string(guest.pid()),
                                     "--to",
                                     "127.0.0.1:" + port,
                                     "--json",
                                     "--work-dir",
                                     guest.fresh_directory("source")};
      words.insert(words.end(), source_.begin(), source_.end());
      guest.obey(Order::kWatch);
      Program source(words, guest.path("run.json"));
      try {
        source.succeed();
      } catch (const Error& error) {
        throw Error("{}{}", error.what(), read_file(AT_FDCWD, guest.path("run.log")));
      }
      guest.reap();
      guest.obey(Order::kNone);
      move.gap_ms = static_cast<double>(guest.board().longest_gap_ns) / 1e6;
      auto told = nlohmann::json::parse(source.output());
      move.told_ms = told["downtime_seconds"].get<double>() * 1000;
    }
    reap_all();
    return move;
  }

 private:
  Program start_agent(BenchGuest& guest, const std::string& port) {
    ReadyPipe ready;
    // The shell is the namespace's first process, so that the agent does not have to be an init.
    std::vector<std::string> words{"/usr/bin/unshare",
                                   "--pid",
                                   "--mount",
                                   "--fork",
                                   "--kill-child",
                                   "--mount-proc",
                                   "--",
                                   "/bin/sh",
                                   "-c",
                                   "\"$@\" & wait",
                                   "sh",
                                   GODWIT_BUILD_DIR "/migrate",
                                   "agent",
                                   "--listen",
                                   "127.0.0.1:" + port,
                                   "--work-dir",
                                   guest.fresh_directory("agent"),
                                   "--status-fd",
                                   std::to_string(kPassedFd)};
    words.insert(words.end(), agent_.begin(), agent_.end());
    Program agent(words, guest.path("agent.log"), ready.write_end());
    ready.wait();
    return agent;
  }

  Settings settings_;
  test::CertificateAuthority authority_;
  std::vector<std::string> agent_, source_;
};

double process_ms(const std::string& output) {
  auto start = Clock::now();
  Program({"/bin/true"}, output).succeed();
  return milliseconds_since(start);
}

void downtime_bench(const Settings& settings) {
  Settings small = settings;
  small.bytes = std::min(settings.bytes, 64 * kMiB);
  ScratchDirectory keeper(settings.directory);
  Mover mover(small, keeper.fresh_directory("certificates"));
  std::vector<double> told;
  auto rounds = measure(
      settings, [&] { return process_ms(keeper.path("true.out")); },
      [&] {
        Move move = mover.run();
        told.push_back(move.told_ms / move.gap_ms);
        return move.gap_ms;
      });
  for (auto& round : rounds) round.value = round.ours;
  print(small, {"migrate, downtime of an idle guest", "ms", "ms one process", Bound::kInformation, 0, "ms"},
        rounds);
  Spread part = spread(told);
  remark(settings, fmt::format("downtime as reported: {:.2f} x what the guest saw ({:.2f} .. {:.2f})",
                               part.median, part.minimum, part.maximum));
}

}  // namespace
}  // namespace godwit::bench

int main(int argc, char** argv) {
  return godwit::bench::run_benchmark(argc, argv, godwit::bench::downtime_bench);
}
