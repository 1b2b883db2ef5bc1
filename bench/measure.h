#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

// How every benchmark measures: one discarded warm-up, then rounds that alternate a raw limit of the machine
// and ours, and the median of the per-round values with minimum and maximum. Nothing here is a test: a missed
// reach is printed, and the program still ends with 0.
namespace godwit::bench {

using Clock = std::chrono::steady_clock;
double milliseconds_since(Clock::time_point start);

struct Settings {
  size_t bytes;           // of the guest's memory
  int rounds;             // after the warm-up
  bool smoke;             // only shows that the program works: tiny sizes, no verdict
  bool json;              // one object per figure and line in place of a table line
  std::string directory;  // for images and raw files; a tmpfs
};
// --smoke --json --rounds N --mib N --directory DIR. Throws UsageError.
Settings parse_settings(int argc, char** argv);

enum class Bound { kAtMost, kAtLeast, kInformation };

// One row of the table.
struct Figure {
  std::string name;
  std::string ours, raw;  // what the two columns hold, with the unit: "frozen ms"
  Bound bound = Bound::kInformation;
  double reach = 0;
  std::string unit = "x";  // of value and reach
};

struct Round {
  double raw = 0, ours = 0;  // as the figure names them
  double value = 0;          // what is compared with the reach; usually ours / raw
};

struct Spread {
  double median = 0, minimum = 0, maximum = 0;
};
Spread spread(std::vector<double> values);
// The value below which `part` (0..1) of the sorted values lie; 0 when there are none.
double percentile(const std::vector<double>& sorted, double part);

// Touches as much new memory and gives it back, so that what is measured next gets pages that the machine's
// host has backed: a virtual machine may hand freed memory back to its host (free page reporting), and the
// first touch afterwards costs many times what the kernel's own work does.
void warm_memory(size_t bytes);

// Runs the warm-up and the rounds; `raw` and `ours` return the numbers of one round. Memory is warm before
// each.
std::vector<Round> measure(const Settings& settings, const std::function<double()>& raw,
                           const std::function<double()>& ours);

// Prints the row: a line of the Markdown table that run.sh heads, or JSON.
void print(const Settings& settings, const Figure& figure, const std::vector<Round>& rounds);
// A remark below the table, on standard error; not with --json.
void remark(const Settings& settings, const std::string& text);

// Runs a benchmark's body; what it throws becomes one line and exit status 1.
int run_benchmark(int argc, char** argv, const std::function<void(const Settings&)>& body);

}  // namespace godwit::bench
