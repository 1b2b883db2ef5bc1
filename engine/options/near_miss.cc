#include <algorithm>
#include <vector>

#include "engine/options/option_table.h"

namespace godwit::options {
namespace {

// Edit distance with swaps of neighbours counted as one (optimal string alignment).
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before_last(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before_last[j - 2] + 1);
      }
    }
    std::swap(before_last, last);
    std::swap(last, row);
  }
  return last[b.size()];
}

}  // namespace

std::optional<std::string> nearest_name(std::string_view wrong,
                                        std::span<const std::string_view> candidates) {
  // One edit per three letters, at most three: "prot" is near "port", "a" is near nothing.
  size_t best_distance = std::min<size_t>(3, wrong.size() / 3) + 1;
  std::optional<std::string> best;
  for (std::string_view candidate : candidates) {
    size_t edits = distance(wrong, candidate);
    if (edits < best_distance) {
      best_distance = edits;
      best = std::string(candidate);
    }
  }
  return best;
}

std::optional<std::string> nearest_option(std::string_view wrong_name) {
  bool negated = wrong_name.starts_with("no-");
  std::vector<std::string_view> names;
  for (const Option& option : option_table()) {
    if (!option.name.empty() && (!negated || option.negatable)) names.push_back(option.name);
  }
  std::string_view bare = negated ? wrong_name.substr(3) : wrong_name;
  auto name = nearest_name(bare, names);
  if (!name) return std::nullopt;
  return (negated ? "--no-" : "--") + *name;
}

}  // namespace godwit::options
