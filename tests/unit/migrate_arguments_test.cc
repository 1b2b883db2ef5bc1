#include "migrate/arguments.h"

#include <doctest/doctest.h>

#include "engine/base/error.h"

namespace godwit::migrate {
namespace {

Invocation parse(std::vector<std::string> words) {
  words.insert(words.begin(), "migrate");
  return parse_arguments(words);
}

std::string refusal(const std::vector<std::string>& words) {
  try {
    parse(words);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST_CASE("migrate run is understood") {
  auto run = std::get<RunOptions>(parse(
      {"run", "-t", "42", "--to", "host-b:99", "--downtime-limit", "50", "--max-rounds=3", "--tcp-close",
       "-j", "--mode", "postcopy", "--json", "--post-commit", "ip address del", "--tls-cert", "c.pem"}));
  CHECK(run.tree == 42);
  CHECK(run.host == "host-b");
  CHECK(run.port == 99);
  CHECK(run.limits.downtime == doctest::Approx(0.05));
  CHECK(run.limits.max_rounds == 3);
  CHECK(run.tcp_close);
  CHECK(run.shell_job);
  CHECK(run.json);
  CHECK(run.mode == Mode::kPostcopy);
  CHECK(run.post_commit == "ip address del");
  CHECK(run.credentials.certificate == "c.pem");
  CHECK_FALSE(run.check_only);
  CHECK(std::get<RunOptions>(parse({"check", "-t", "42", "--to", "b"})).check_only);
}

TEST_CASE("migrate agent is understood") {
  auto agent = std::get<AgentOptions>(
      parse({"agent", "--listen", "10.0.0.1:5", "--allow", "a", "--allow", "b", "--work-dir", "/w"}));
  CHECK(agent.address == "10.0.0.1");
  CHECK(agent.port == 5);
  CHECK(agent.allow == std::vector<std::string>{"a", "b"});
  CHECK(agent.work_dir == "/w");
  CHECK(std::get<AgentOptions>(parse({"agent", "--address", "::1", "--port", "6"})).address == "::1");
}

TEST_CASE("endpoints") {
  CHECK(parse_endpoint("b").host == "b");
  CHECK(parse_endpoint("b").port == kDefaultPort);
  CHECK(parse_endpoint("[::1]:7").host == "::1");
  CHECK(parse_endpoint("[::1]:7").port == 7);
  CHECK(parse_endpoint("fe80::1").host == "fe80::1");
  CHECK(parse_endpoint(":8").port == 8);
  CHECK_THROWS_AS(parse_endpoint("b:seven"), UsageError);
  CHECK_THROWS_AS(parse_endpoint("[::1"), UsageError);
  CHECK_THROWS_AS(parse_endpoint("b:70000"), UsageError);
}

TEST_CASE("what is not available yet is refused by name") {
  CHECK(refusal({"run", "-t", "1", "--to", "b", "--mode", "hybrid"}) == "--mode hybrid: not available yet");
  CHECK(refusal({"run", "--bandwidth", "10"}) == "--bandwidth: not available yet");
  for (const char* name : {"status", "cancel", "report", "resolve"}) {
    CHECK(refusal({name}) == std::string(name) + ": not available yet");
  }
}

TEST_CASE("mistakes are answered with what was meant") {
  CHECK(refusal({}) == "a command is required; migrate -h lists them");
  CHECK(refusal({"rum"}) == "unknown command rum; did you mean run?");
  CHECK(refusal({"run", "--tpc-close"}) == "unknown option --tpc-close; did you mean --tcp-close?");
  CHECK(refusal({"run", "--to", "b"}) == "run: --tree PID is required");
  CHECK(refusal({"run", "-t", "1"}) == "run: --to HOST[:PORT] is required");
  CHECK(refusal({"run", "-t", "x"}) == "--tree: not a number from 1 to 4194304: x");
  CHECK(refusal({"run", "-t"}) == "-t needs an argument");
  CHECK(refusal({"run", "--listen", "a:1"}) == "--listen is no option of run");
  CHECK(refusal({"agent", "stray"}) == "agent: unexpected argument stray");
}

TEST_CASE("help names every option of the command and its exit status") {
  std::string help = std::get<HelpText>(parse({"run", "-h"})).text;
  for (const char* word :
       {"--tree", "--downtime-limit", "--bandwidth MIB", "not available yet", "Exit status"}) {
    CHECK_MESSAGE(help.find(word) != std::string::npos, word);
  }
  CHECK(help.find("--listen") == std::string::npos);
  CHECK(std::get<HelpText>(parse({"-h"})).text.find("agent") != std::string::npos);
}

}  // namespace
}  // namespace godwit::migrate
