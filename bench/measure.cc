#include "bench/measure.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string_view>

#include "engine/base/error.h"
#include "engine/base/mapping.h"
#include "engine/base/units.h"

namespace godwit::bench {
namespace {

constexpr std::string_view kUsage = "usage: [--smoke] [--json] [--rounds N] [--mib N] [--directory DIR]";

size_t parse_count(std::string_view option, const std::string& text) {
  size_t used = 0;
  unsigned long value = 0;
  try {
    value = std::stoul(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  if (used != text.size() || value == 0) throw UsageError("{} needs a number, not {}", option, text);
  return value;
}

template <class Member>
Spread spread_of(const std::vector<Round>& rounds, Member Round::*member) {
  std::vector<double> values;
  for (const auto& round : rounds) values.push_back(round.*member);
  return spread(std::move(values));
}

std::string verdict(const Settings& settings, const Figure& figure, double median) {
  if (settings.smoke) return "not judged";
  if (figure.bound == Bound::kInformation) return "";
  bool met = figure.bound == Bound::kAtMost ? median <= figure.reach : median >= figure.reach;
  return met ? "met" : "missed";
}

std::string reach_text(const Figure& figure) {
  if (figure.bound == Bound::kInformation) return "";
  return fmt::format("{} {:.4g} {}", figure.bound == Bound::kAtMost ? "<=" : ">=", figure.reach, figure.unit);
}

}  // namespace

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

Settings parse_settings(int argc, char** argv) {
  Settings settings{.bytes = kGiB, .rounds = 7, .smoke = false, .json = false, .directory = "/dev/shm"};
  std::vector<std::string> words(argv + 1, argv + argc);
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--smoke") {
      settings.smoke = true;
      settings.rounds = 1;
      settings.bytes = 8 * kMiB;
    } else if (word == "--json") {
      settings.json = true;
    } else if (i + 1 < words.size() && word == "--rounds") {
      settings.rounds = static_cast<int>(parse_count(word, words[++i]));
    } else if (i + 1 < words.size() && word == "--mib") {
      settings.bytes = parse_count(word, words[++i]) * kMiB;
    } else if (i + 1 < words.size() && word == "--directory") {
      settings.directory = words[++i];
    } else {
      throw UsageError("{}: {}", word, kUsage);
    }
  }
  return settings;
}

Spread spread(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  size_t middle = values.size() / 2;
  double median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

double percentile(const std::vector<double>& sorted, double part) {
  if (sorted.empty()) return 0;
  auto rank = static_cast<size_t>(std::ceil(part * static_cast<double>(sorted.size())));
  return sorted[std::clamp<size_t>(rank, 1, sorted.size()) - 1];
}

void warm_memory(size_t bytes) {
  auto memory = Mapping::anonymous(bytes);
  check(::madvise(memory.data(), bytes, MADV_NOHUGEPAGE), "madvise(MADV_NOHUGEPAGE)");
  for (size_t at = 0; at < bytes; at += kPageSize) memory.data()[at] = std::byte{1};
}

std::vector<Round> measure(const Settings& settings, const std::function<double()>& raw,
                           const std::function<double()>& ours) {
  std::vector<Round> rounds;
  for (int i = 0; i <= settings.rounds; ++i) {
    Round round;
    warm_memory(settings.bytes + settings.bytes / 4);
    round.raw = raw();
    warm_memory(settings.bytes + settings.bytes / 4);
    round.ours = ours();
    round.value = round.ours / round.raw;
    if (i > 0) rounds.push_back(round);
  }
  return rounds;
}

void print(const Settings& settings, const Figure& figure, const std::vector<Round>& rounds) {
  Spread value = spread_of(rounds, &Round::value);
  Spread ours = spread_of(rounds, &Round::ours), raw = spread_of(rounds, &Round::raw);
  std::string judged = verdict(settings, figure, value.median);
  if (settings.json) {
    auto object = [](const Spread& of) {
      return nlohmann::json{{"median", of.median}, {"min", of.minimum}, {"max", of.maximum}};
    };
    nlohmann::json row{{"figure", figure.name},   {"value", object(value)},      {"unit", figure.unit},
                       {"ours", object(ours)},    {"ours_is", figure.ours},      {"raw", object(raw)},
                       {"raw_is", figure.raw},    {"reach", reach_text(figure)}, {"verdict", judged},
                       {"rounds", rounds.size()}, {"bytes", settings.bytes}};
    std::printf("%s\n", row.dump().c_str());
  } else {
    std::printf("| %s | %.3g %s (%.3g .. %.3g) | %s | %s | %.4g %s | %.4g %s |\n", figure.name.c_str(),
                value.median, figure.unit.c_str(), value.minimum, value.maximum, reach_text(figure).c_str(),
                judged.c_str(), ours.median, figure.ours.c_str(), raw.median, figure.raw.c_str());
  }
  std::fflush(stdout);
}

void remark(const Settings& settings, const std::string& text) {
  if (!settings.json) std::fprintf(stderr, "  %s\n", text.c_str());
}

int run_benchmark(int argc, char** argv, const std::function<void(const Settings&)>& body) {
  try {
    body(parse_settings(argc, argv));
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "Error: %s\n", error.what());
    return 1;
  }
}

}  // namespace godwit::bench
