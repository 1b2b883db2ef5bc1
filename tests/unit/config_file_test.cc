#include "engine/options/config_file.h"

#include <doctest/doctest.h>

#include "engine/base/error.h"

namespace godwit::options {
namespace {

std::string message_of(std::string_view text) {
  try {
    parse_config(text, "c.conf");
  } catch (const UsageError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST_CASE("the manual's example") {
  auto settings = parse_config(
      "tcp-established\n"
      "work-dir \"/home/USERNAME/criu/my \\\"work\\\" directory\"\n"
      "#this is a comment\n"
      "no-restore-sibling   # this is another comment\n",
      "c.conf");
  REQUIRE(settings.size() == 3);
  CHECK(settings[0].option == find_option("tcp-established"));
  CHECK_FALSE(settings[0].argument.has_value());
  CHECK(settings[1].argument == "/home/USERNAME/criu/my \"work\" directory");
  CHECK(settings[1].source == "c.conf:2");
  CHECK(settings[2].option == find_option("restore-sibling"));
  CHECK(settings[2].negated);
  CHECK(settings[2].source == "c.conf:4");
}

TEST_CASE("blanks, empty lines and a missing last new line") {
  auto settings = parse_config("\n \t\n\t tree \t 42 \t\r\n  #x\ntls", "c.conf");
  REQUIRE(settings.size() == 2);
  CHECK(settings[0].argument == "42");
  CHECK(settings[1].option == find_option("tls"));
  CHECK(settings[1].source == "c.conf:5");
  CHECK(parse_config("", "c.conf").empty());
}

TEST_CASE("comments, quotes and backslashes") {
  CHECK(parse_config("tree 42# root", "c.conf")[0].argument == "42");
  CHECK(parse_config("tls#x", "c.conf")[0].option == find_option("tls"));
  CHECK(parse_config("work-dir \"a # b\" # c", "c.conf")[0].argument == "a # b");
  CHECK(parse_config("work-dir \"a\\nb\\\\c\"", "c.conf")[0].argument == "a\\nb\\\\c");
  CHECK(parse_config("work-dir \"\"", "c.conf")[0].argument == "");
  CHECK(parse_config("work-dir a\\\"b", "c.conf")[0].argument == "a\"b");
  // An optional argument stands as any other here, while the command line needs "=".
  CHECK(parse_config("verbosity 4", "c.conf")[0].argument == "4");
  CHECK_FALSE(parse_config("verbosity", "c.conf")[0].argument.has_value());
}

TEST_CASE("what is wrong is named with its line") {
  CHECK(message_of("\ntre 42") == "c.conf:2: unknown option tre; did you mean tree?");
  CHECK(message_of("dump") == "c.conf:1: dump: commands are not allowed in configuration files");
  CHECK(message_of("cpuinfo dump") == "c.conf:1: cpuinfo: commands are not allowed in configuration files");
  CHECK(message_of("--tls") == "c.conf:1: --tls: options stand here without their dashes");
  CHECK(message_of("tls yes") == "c.conf:1: tls takes no argument");
  CHECK(message_of("tree") == "c.conf:1: tree needs an argument: PID");
  CHECK(message_of("tree # 42") == "c.conf:1: tree needs an argument: PID");
  CHECK(message_of("work-dir my dir") ==
        "c.conf:1: an argument with white space needs double quotes: my dir");
  CHECK(message_of("work-dir \"my dir") == "c.conf:1: a closing quote is missing");
  CHECK(message_of("work-dir \"a\" b") == "c.conf:1: only a comment may follow the closing quote");
  CHECK(message_of("no-tree 1").find("unknown option no-tree") != std::string::npos);
}

TEST_CASE("page-server is an option here, although it is a command too") {
  CHECK(parse_config("page-server", "c.conf")[0].option == find_option("page-server"));
}

}  // namespace
}  // namespace godwit::options
