#include "engine/commands/check.h"

#include <doctest/doctest.h>

#include "engine/base/error.h"

namespace godwit::commands {
namespace {

using kernel::Feature;
using kernel::FeatureCategory;

constexpr const char* kMaybe =
    "Looks good but some kernel features are missing which, depending on your process tree, may cause dump "
    "or "
    "restore failure.\n";

// A kernel that lacks one feature, or everything of one category.
auto without(std::string_view name) {
  return [name](const Feature& feature) -> kernel::FeatureResult {
    if (feature.name == name) return {false, "it is off"};
    return {true, {}};
  };
}
auto without(FeatureCategory category) {
  return [category](const Feature& feature) -> kernel::FeatureResult {
    if (feature.category == category) return {false, "it is off"};
    return {true, {}};
  };
}

options::CheckOptions all_categories() {
  options::CheckOptions options;
  options.extra = options.experimental = true;
  return options;
}

TEST_CASE("nothing missing looks good") {
  auto report = make_check_report(all_categories(), without("nothing"));
  CHECK(report.text == "Looks good.\n");
  CHECK(report.status == 0);
}

TEST_CASE("a missing required feature does not look good, and is named with its reason") {
  auto report = make_check_report({}, without("kcmp"));
  CHECK(report.text.find("kcmp is missing (category 1, ") == 0);
  CHECK(report.text.find("): it is off\nDoes not look good.\n") != std::string::npos);
  CHECK(report.status == 1);
}

TEST_CASE("features of other categories count only when they are asked for") {
  CHECK(make_check_report({}, without(FeatureCategory::kSometimes)).status == 0);
  CHECK(make_check_report({}, without(FeatureCategory::kExperimental)).status == 0);
  options::CheckOptions extra;
  extra.extra = true;
  auto report = make_check_report(extra, without(FeatureCategory::kSometimes));
  CHECK(report.text.ends_with(kMaybe));
  CHECK(report.text.find("mem_dirty_track is missing (category 2, ") != std::string::npos);
  CHECK(report.status == 1);
  CHECK(make_check_report(extra, without(FeatureCategory::kExperimental)).status == 0);
  CHECK(make_check_report(all_categories(), without(FeatureCategory::kExperimental)).text.ends_with(kMaybe));
}

TEST_CASE("one feature") {
  options::CheckOptions options;
  options.feature = "uffd";
  CHECK(make_check_report(options, without("kcmp")).text == "uffd is supported\n");
  CHECK(make_check_report(options, without("kcmp")).status == 0);
  CHECK(make_check_report(options, without("uffd")).text == "uffd is not supported: it is off\n");
  CHECK(make_check_report(options, without("uffd")).status == 1);
  options.feature = "ufd";
  CHECK_THROWS_AS(make_check_report(options, without("uffd")), UsageError);
}

TEST_CASE("the list has a line per feature") {
  options::CheckOptions options;
  options.feature = "list";
  auto report = make_check_report(options, without("uffd"));
  for (const char* name : {"mem_dirty_track", "uffd", "uffd-noncoop", "pagemap_scan", "clone3_set_tid"}) {
    CAPTURE(name);
    CHECK(("\n" + report.text).find(std::string("\n") + name + "\n") != std::string::npos);
  }
  CHECK(report.status == 0);
}

}  // namespace
}  // namespace godwit::commands
