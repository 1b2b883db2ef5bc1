// Images that one implementation writes and the other restores. Runs in the VM, see README.md.
#include <doctest/doctest.h>

#include <filesystem>

#include "tests/interop/stock.h"

namespace godwit::test {
namespace {

struct Program {
  const char* name;
  std::vector<std::string> arguments{};
};

const Program kPrograms[] = {{"counter", {"8", "8"}}, {"tree"}, {"files"}, {"state"}};

void moves(const std::string& dumper, const std::string& restorer) {
  for (const auto& [name, arguments] : kPrograms) {
    CAPTURE(name);
    Guest guest(name, arguments);
    dump_with(dumper, guest);
    restore_with(restorer, guest);
    CHECK(failures_of_ours(guest, restorer) == "");
  }
}

// Two pre-dumps and a dump by one, the restore by the other.
void moves_by_a_chain(const std::string& dumper, const std::string& restorer) {
  Guest guest("counter", {"3", "6"});
  std::string pid = std::to_string(guest.pid());
  run_well(dumper, {"pre-dump", "-t", pid, "-D", guest.directory("pre1")});
  run_well(dumper, {"pre-dump", "-t", pid, "--track-mem", "--prev-images-dir", "../pre1", "-D",
                    guest.directory("pre2")});
  dump_with(dumper, guest, {"--track-mem", "--prev-images-dir", "../pre2"});
  restore_with(restorer, guest);
  CHECK(guest.failures() == "");
}

TEST_CASE("our images are restored by stock criu") {
  moves(kOurs, kStock);
}
TEST_CASE("stock criu's images are restored by ours") {
  moves(kStock, kOurs);
}
TEST_CASE("our chain of pre-dumps is restored by stock criu") {
  moves_by_a_chain(kOurs, kStock);
}
TEST_CASE("stock criu's chain of pre-dumps is restored by ours") {
  moves_by_a_chain(kStock, kOurs);
}
TEST_CASE("a process goes back and forth between the two") {
  Guest guest("counter", {"2", "4"});
  for (const auto& [dumper, restorer] : {std::pair{kOurs, kStock}, {kStock, kOurs}, {kOurs, kStock}}) {
    dump_with(dumper, guest);
    restore_with(restorer, guest);
  }
  CHECK(guest.failures() == "");
}

// crit's own reader, once for all files: starting python3 takes seconds here.
TEST_CASE("stock crit decodes every image of ours") {
  Guest guest("files");
  dump_with(kOurs, guest);
  std::vector<std::string> words{"/usr/bin/python3", "-c",
                                 "import sys, pycriu\n"
                                 "for f in sys.argv[1:]: pycriu.images.load(open(f, 'rb'))"};
  for (const auto& entry : std::filesystem::directory_iterator(guest.directory())) {
    bool has_records = !entry.path().filename().string().starts_with("pages-");
    if (entry.path().extension() == ".img" && has_records) words.push_back(entry.path());
  }
  CHECK(words.size() > 8);
  ::setenv("PYTHONPATH", GODWIT_BUILD_DIR "/vm/stock/usr/lib/python3/dist-packages", 1);
  Outcome outcome = run(words);
  ::unsetenv("PYTHONPATH");
  CAPTURE(outcome.output);
  CHECK(outcome.status == 0);
}

}  // namespace
}  // namespace godwit::test
