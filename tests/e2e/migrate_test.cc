// Whole moves between two "hosts" (tests/support/move_lab.py): what goes well, what is refused, and that
// exactly one copy runs whatever is killed and whenever.
#include <doctest/doctest.h>

#include <map>
#include <sstream>

#include "tests/support/certificates.h"
#include "tests/support/program.h"
#include "tests/support/skip.h"
#include "tests/support/temporary_directory.h"

namespace godwit::test {
namespace {

using Facts = std::map<std::string, std::string>;

// Certificates of the source, of the agent, and of a source whose authority the agent does not know.
const std::string& certificates() {
  static TemporaryDirectory directory;
  static const std::string path = [] {
    CertificateAuthority authority(directory.path(), "ca");
    authority.issue({.name = "source", .ip_addresses = {"127.0.0.1"}});
    authority.issue({.name = "agent", .ip_addresses = {"127.0.0.1"}});
    CertificateAuthority(directory.path(), "strange-ca")
        .issue({.name = "stranger", .ip_addresses = {"127.0.0.1"}});
    return directory.path();
  }();
  return path;
}

Facts run_lab(const std::vector<std::string>& arguments) {
  TemporaryDirectory work;
  std::vector<std::string> words = {"/usr/bin/unshare",
                                    "--mount",
                                    "--net",
                                    "--pid",
                                    "--fork",
                                    "--kill-child",
                                    "--mount-proc",
                                    "--",
                                    "/usr/bin/python3",
                                    GODWIT_SOURCE_DIR "/tests/support/move_lab.py",
                                    "--build",
                                    GODWIT_BUILD_DIR,
                                    "--work",
                                    work.path(),
                                    "--certificates",
                                    certificates()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  Outcome outcome = run(words);
  REQUIRE_MESSAGE(outcome.status == 0, outcome.output);
  Facts facts;
  std::istringstream lines(outcome.output);
  for (std::string line; std::getline(lines, line);) {
    size_t equals = line.find('=');
    if (equals != std::string::npos) facts[line.substr(0, equals)] = line.substr(equals + 1);
  }
  facts["everything"] = outcome.output;
  return facts;
}

// A move after which, whatever was asked of the lab, one copy runs and finds nothing wrong.
Facts move(const std::vector<std::string>& arguments = {}) {
  Facts facts = run_lab(arguments);
  INFO(facts["everything"]);
  CHECK(facts["both_ran"] == "0");
  CHECK(facts["guest_goes_on"] == "1");
  CHECK(facts["guest_failures"] == "");
  CHECK(facts["left_in_shm"] == "0");
  return facts;
}

void check_moved(Facts facts) {
  CHECK_MESSAGE(facts["status"] == "0", facts["message"]);
  CHECK(facts["source"] == "gone");
  CHECK(facts["destination"] == "running");
}

void check_stayed(Facts facts) {
  CHECK_MESSAGE(facts["status"] != "0", facts["message"]);
  CHECK(facts["source"] == "running");
  CHECK(facts["destination"] == "gone");
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("pre-copy moves a counting program") {
  Facts facts = move();
  check_moved(facts);
  CHECK(facts["descends_from_agent"] == "1");
  CHECK(std::stoi(facts["rounds"]) >= 2);
  // The last round ships what was written since the round before it, not everything.
  CHECK(std::stod(facts["shipped_pages"]) <= 1.5 * std::stod(facts["dirty_pages"]));
}

TEST_CASE("post-copy moves a counting program, whose pages follow it") {
  Facts facts = move({"--run=--mode", "--run=postcopy"});
  check_moved(facts);
  CHECK(facts["descends_from_agent"] == "1");
  CHECK(std::stoi(facts["lazy_pages"]) > 1000);
  CHECK(std::stoi(facts["postcopy_pages"]) <= std::stoi(facts["lazy_pages"]));
  CHECK(std::stoi(facts["shipped_pages"]) < std::stoi(facts["lazy_pages"]));
}

TEST_CASE("a tree of processes moves") {
  check_moved(move({"--guest", "tree"}));
}

TEST_CASE("the preflight finds a file that the other host lacks, and nothing is moved") {
  Facts facts = move({"--on-agent-host", "mount -t tmpfs none " GODWIT_BUILD_DIR "/guests"});
  check_stayed(facts);
  CHECK(facts["status"] == "5");
  CHECK(contains(facts["findings"], GODWIT_BUILD_DIR "/guests/counter: does not exist here"));
}

TEST_CASE("migrate check changes nothing") {
  Facts facts = move({"--command", "check"});
  CHECK(facts["status"] == "0");
  CHECK(facts["source"] == "running");
  CHECK(facts["destination"] == "gone");
}

TEST_CASE("a certificate of another authority, or not on the list, is turned away") {
  Facts facts = move({"--source-certificate", "stranger"});
  check_stayed(facts);
  CHECK(contains(facts["message"], "agent 127.0.0.1:27185"));
  facts = move({"--agent=--allow", "--agent=somebody-else"});
  check_stayed(facts);
  CHECK(contains(facts["message"], "is not on the --allow list"));
}

TEST_CASE("a failing --pre-commit rolls back, a failing --post-commit does not") {
  Facts facts = move({"--run=--pre-commit", "--run=exit 3"});
  check_stayed(facts);
  CHECK(contains(facts["message"], "exit 3: exit status 3"));
  facts = move({"--run=--post-commit", "--run=exit 4"});
  CHECK(facts["status"] == "3");
  CHECK(facts["source"] == "gone");
  CHECK(facts["destination"] == "running");
}

TEST_CASE("migrate run killed before the agent's commit leaves the source running") {
  for (const std::string& point :
       std::vector<std::string>{"migrate-preflight", "migrate-precopy", "migrate-final", "migrate-dumped",
                                "migrate-images-sent", "migrate-restored", "migrate-asking"}) {
    CAPTURE(point);
    check_stayed(move({"--run-fault", point + "=kill"}));
  }
}

TEST_CASE("migrate run killed after the commit leaves the destination running") {
  Facts facts = move({"--run-fault", "migrate-answered=kill"});
  CHECK(facts["source"] == "gone");
  CHECK(facts["destination"] == "running");
}

TEST_CASE("migrate run killed in post-copy leaves its copy stopped, as the other one lacks pages") {
  Facts facts = run_lab({"--run=--mode", "--run=postcopy", "--run-fault", "migrate-postcopy=kill"});
  INFO(facts["everything"]);
  CHECK(facts["source"] == "stopped");
  CHECK(facts["destination"] == "running");
  CHECK(facts["both_ran"] == "0");
  CHECK(facts["guest_failures"] == "");
}

TEST_CASE("any failure of migrate run before the commit is a rollback") {
  for (const std::string& point :
       std::vector<std::string>{"migrate-precopy", "migrate-dumped", "migrate-restored", "migrate-asking"}) {
    CAPTURE(point);
    Facts facts = move({"--run-fault", point + "=fail"});
    check_stayed(facts);
    CHECK(facts["status"] == "1");
    CHECK(contains(facts["message"], point));
  }
}

TEST_CASE("a worker that dies before it released the tree leaves the source running") {
  for (const std::string& point :
       std::vector<std::string>{"migrate-agent-entered", "migrate-agent-restoring", "migrate-agent-restored",
                                "migrate-agent-committed"}) {
    CAPTURE(point);
    check_stayed(move({"--agent-fault", point + "=kill"}));
  }
}

TEST_CASE("a worker that fails before it released the tree says why") {
  for (const std::string& point : std::vector<std::string>{"migrate-agent-entered", "migrate-agent-restored",
                                                           "migrate-agent-committed"}) {
    CAPTURE(point);
    Facts facts = move({"--agent-fault", point + "=fail"});
    check_stayed(facts);
    CHECK(contains(facts["message"], point));
  }
}

TEST_CASE("a worker that dies after the release leaves the destination running") {
  for (const std::string& point :
       std::vector<std::string>{"migrate-agent-released", "migrate-agent-resumed"}) {
    CAPTURE(point);
    check_moved(move({"--agent-fault", point + "=kill"}));
  }
}

TEST_CASE("while the agent cannot be asked, neither copy runs; a new agent gives the verdict") {
  Facts facts = move({"--agent-fault", "migrate-agent-committed=stop", "--restart-agent"});
  CHECK(facts["hung"] == "1");
  CHECK(facts["source_while_hung"] == "traced");
  CHECK(facts["status"] == "1");
  CHECK(facts["source"] == "running");
  CHECK(facts["destination"] == "gone");
}

TEST_CASE("the demo succeeds") {
  Outcome outcome = run({GODWIT_SOURCE_DIR "/migrate/demo.sh", "--no-build"});
  CHECK_MESSAGE(outcome.status == 0, outcome.output);
  CHECK_FALSE(contains(outcome.output, "FAIL"));
}

}  // namespace
}  // namespace godwit::test
