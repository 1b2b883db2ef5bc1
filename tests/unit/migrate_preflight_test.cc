#include "migrate/preflight.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "engine/base/error.h"
#include "migrate/cpu_features.h"
#include "migrate/move_report.h"
#include "migrate/tree_survey.h"
#include "tests/support/temporary_directory.h"

namespace godwit::migrate {
namespace {

// Our own process as a tree to be moved to this very host.
struct Question {
  test::TemporaryDirectory directory;
  TreeSurvey survey = survey_tree(::getpid());
  pb::preflight question = make_preflight(survey, false);
  PreflightSurroundings here{directory.path(), [](uint32_t) { return false; }};

  // All blocking findings, in one text.
  std::string blocks() {
    std::string text;
    auto findings = check_preflight(question, here);
    for (const auto& finding : findings.finding()) {
      if (finding.blocks()) text += finding.what() + "\n";
    }
    return text;
  }
};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("a survey finds the process, its threads' numbers and its files") {
  TreeSurvey survey = survey_tree(::getpid());
  CHECK(survey.pids.front() == ::getpid());
  CHECK(survey.numbers.contains(static_cast<uint32_t>(::getpid())));
  CHECK(survey.resident_bytes > 0);
  bool found = false;
  for (const auto& file : survey.files) found |= contains(file.name(), "/unit_tests");
  CHECK(found);
  CHECK_THROWS_AS(survey_tree(4'000'000), Error);
}

TEST_CASE("files that are missing or different are all listed") {
  Question q;
  std::string before = q.blocks();
  std::ofstream(q.directory / "short") << "1";
  auto file = q.question.files(0);
  file.set_name("/nowhere/at-all");
  *q.question.add_files() = file;
  file.set_name(q.directory / "short");
  file.set_mode(S_IFREG | 0644);
  ::chmod((q.directory / "short").c_str(), 0644);
  file.set_size(17);
  *q.question.add_files() = file;
  std::string after = q.blocks();
  CHECK_FALSE(contains(before, "/nowhere"));
  CHECK(contains(after, "/nowhere/at-all: does not exist here"));
  CHECK(contains(after, "has 1 bytes here and had 17"));
}

TEST_CASE("numbers that are taken are listed together") {
  Question q;
  q.question.add_numbers(77);
  q.question.add_numbers(78);
  q.here.number_is_taken = [](uint32_t number) { return number == 77 || number == 78; };
  CHECK(contains(q.blocks(), "process numbers of the tree are taken: 77 78"));
  CHECK(surroundings_here("/").number_is_taken(static_cast<uint32_t>(::getpid())));
}

TEST_CASE("processor features and room are compared") {
  Question q;
  q.question.add_cpu_flags("zz_future");
  q.question.set_memory_bytes(uint64_t{1} << 60);
  std::string text = q.blocks();
  CHECK(contains(text, "the processor lacks what the source's has: zz_future"));
  CHECK(contains(text, "MiB of memory are available"));
  CHECK(contains(text, "has room for"));
  Question registers;
  registers.question.set_xfeatures(~uint64_t{0});
  CHECK(contains(registers.blocks(), "registers are not saved here"));
}

TEST_CASE("a clock that would go backwards is a warning") {
  Question q;
  q.question.set_monotonic_ns(q.question.monotonic_ns() + 100'000'000'000);
  q.question.set_realtime_ns(q.question.realtime_ns() - 100'000'000'000);
  std::string warnings;
  auto findings = check_preflight(q.question, q.here);
  for (const auto& finding : findings.finding()) {
    if (!finding.blocks()) warnings += finding.what() + finding.advice();
  }
  CHECK(contains(warnings, "CLOCK_MONOTONIC is 100 s behind"));
  CHECK(contains(warnings, "the hosts' clocks are 100.0 s apart"));
}

TEST_CASE("only flags that user space uses count") {
  auto flags = user_space_flags("processor : 0\nflags\t\t: fpu vmx avx2 sse2 smep\nflags : none\n");
  CHECK(flags == std::vector<std::string>{"avx2", "sse2"});
  CHECK(missing_flags(flags, std::vector<std::string>{"sse2"}) == std::vector<std::string>{"avx2"});
  CHECK_THROWS_AS(user_space_flags("processor: 0\n"), FormatError);
}

TEST_CASE("the report is JSON with every round") {
  MoveReport report;
  report.name = "bad \xff name";
  report.rounds.push_back({{.pages = 12, .seconds = 1}, {}});
  std::string json = to_json(report);
  CHECK(contains(json, "\"pages\": 12"));
  CHECK(contains(json, "\"downtime_seconds\": 0"));
}

}  // namespace
}  // namespace godwit::migrate
