// Memory tracking by soft-dirty bits, which Debian's kernel has. Runs in the VM, see README.md.
#include <doctest/doctest.h>

#include "engine/images/image_directory.h"
#include "engine/images/stats.h"
#include "tests/support/guest.h"
#include "tests/support/program.h"

namespace godwit::test {
namespace {

pb::dump_stats_entry statistics_of(const std::string& directory) {
  return images::read_dump_stats(images::ImageDirectory::open(directory));
}

void pre_dump(Guest& guest, const std::string& name, const std::vector<std::string>& options = {}) {
  std::vector<std::string> words{"pre-dump", "-t", std::to_string(guest.pid()), "-D", guest.directory(name)};
  words.insert(words.end(), options.begin(), options.end());
  Outcome outcome = criu(words);
  CAPTURE(outcome.output);
  REQUIRE(outcome.status == 0);
  CHECK(guest.goes_on());
}

// Two pre-dumps and a dump on top of them; the guest goes on and finds its memory as it was.
void moves_by_a_chain(const std::string& name, const std::vector<std::string>& arguments = {}) {
  CAPTURE(name);
  Guest guest(name, arguments);
  pre_dump(guest, "pre1");
  pre_dump(guest, "pre2", {"--prev-images-dir", "../pre1"});
  guest.dump({"--prev-images-dir", "../pre2", "--track-mem"});
  auto first = statistics_of(guest.path("pre1"));
  auto second = statistics_of(guest.path("pre2"));
  auto last = statistics_of(guest.directory());
  CHECK(first.pages_skipped_parent() == 0);
  CHECK(second.pages_skipped_parent() > 0);
  CHECK(last.pages_skipped_parent() > 0);
  CHECK(second.pages_written() < first.pages_written());
  guest.restore();
  CHECK(guest.goes_on());
  CHECK(guest.failures() == "");
}

TEST_CASE("criu check finds the soft-dirty bits and names them as what tracks memory") {
  Outcome outcome = criu({"check", "-v3"});
  CAPTURE(outcome.output);
  CHECK(outcome.status == 0);
  CHECK(outcome.output.find("tracked by: soft-dirty") != std::string::npos);
  for (const char* feature : {"mem_dirty_track", "soft_dirty"}) {
    CAPTURE(feature);
    CHECK(criu({"check", "--feature", feature}).status == 0);
  }
}

TEST_CASE("eight threads move by a chain of pre-dumps") {
  moves_by_a_chain("counter", {"8", "16"});
}
TEST_CASE("open files move by a chain of pre-dumps") {
  moves_by_a_chain("files");
}
TEST_CASE("a task with odd credentials moves by a chain of pre-dumps") {
  moves_by_a_chain("state");
}
TEST_CASE("a tree moves by a chain of pre-dumps") {
  moves_by_a_chain("tree");
}

}  // namespace
}  // namespace godwit::test
