// The steps that fill a descriptor table, run on a model of the kernel's table.
#include "engine/files/descriptor_install.h"

#include <doctest/doctest.h>

#include <map>

using namespace godwit::files;
using Call = InstallStep::Call;

namespace {

constexpr int kPidfd = -2;

struct Descriptor {
  int source = -1;
  bool close_on_exec = false;
  bool operator==(const Descriptor&) const = default;
};
using Table = std::map<int, Descriptor>;

int lowest_free(const Table& table) {
  int number = 0;
  while (table.contains(number)) ++number;
  return number;
}

// What the kernel would do; every step must find what it expects.
Table run(const std::vector<InstallStep>& steps) {
  Table table;
  for (const InstallStep& step : steps) {
    switch (step.call) {
      case Call::kOpenPidfd:
        CHECK(step.to == lowest_free(table));
        table[step.to] = {kPidfd, true};
        break;
      case Call::kGet:
        REQUIRE(table.contains(step.from));
        CHECK(table[step.from].source == kPidfd);
        CHECK(step.to == lowest_free(table));
        table[step.to] = {step.source, true};
        break;
      case Call::kMove:
        REQUIRE(table.contains(step.from));
        CHECK_FALSE(table.contains(step.to));  // dup3 would close it
        CHECK(step.from != step.to);           // EINVAL
        table[step.to] = {table[step.from].source, step.close_on_exec};
        break;
      case Call::kClose:
        CHECK(table.erase(step.from) == 1);
        break;
      case Call::kKeepOnExec:
        REQUIRE(table.contains(step.from));
        table[step.from].close_on_exec = false;
        break;
    }
  }
  return table;
}

void check_installs(const std::vector<int>& numbers) {
  std::vector<WantedDescriptor> wanted;
  Table expected;
  for (int number : numbers) {
    wanted.push_back({.number = number, .close_on_exec = number % 2 == 1, .source = 1000 + number});
    expected[number] = {1000 + number, number % 2 == 1};
  }
  CHECK(run(install_steps(wanted)) == expected);
}

}  // namespace

TEST_CASE("tables without gaps, with gaps anywhere, with large numbers") {
  check_installs({0});
  check_installs({0, 1, 2});
  check_installs({1, 2, 3});
  check_installs({3});
  check_installs({0, 1, 2, 4, 5, 7, 1023});
  check_installs({0, 2, 3, 4, 900000, 1048575});
  check_installs({5, 6, 7});
  std::vector<int> many;
  for (int number = 0; number < 3000; number += number % 7 == 3 ? 3 : 1) many.push_back(number);
  check_installs(many);
}

TEST_CASE("no number above the wanted ones is used, if they leave a gap") {
  CHECK(install_steps({}).empty());
  CHECK(highest_number({}) == -1);
  std::vector<WantedDescriptor> wanted{{.number = 0}, {.number = 2}};
  CHECK(highest_number(install_steps(wanted)) == 2);
  wanted.insert(wanted.begin() + 1, WantedDescriptor{.number = 1});
  CHECK(highest_number(install_steps(wanted)) == 3);
}

TEST_CASE("steps are dealt out to batches") {
  std::vector<WantedDescriptor> wanted;
  for (int number = 0; number < 100; ++number) wanted.push_back({.number = number, .source = number});
  auto steps = install_steps(wanted);
  auto batches = install_batches(steps, 1, 32);
  size_t calls = 0;
  for (const auto& batch : batches) {
    CHECK(batch.size() <= 32);
    calls += batch.size();
  }
  CHECK(calls == steps.size());
}
