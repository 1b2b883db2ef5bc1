#include "engine/options/command_line.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/base/error.h"
#include "engine/options/option_table.h"
#include "tests/support/temporary_directory.h"

namespace godwit::options {
namespace {

// An environment in which no file of this machine is read.
Environment nowhere() {
  return {"/nonexistent/default.conf", std::nullopt, std::nullopt};
}

std::vector<std::string> split(const std::string& line) {
  std::vector<std::string> words{"criu"};
  std::istringstream text(line);
  for (std::string word; text >> word;) words.push_back(word);
  return words;
}

Request parse_line(const std::string& line, const Environment& environment = nowhere()) {
  return parse(split(line), environment);
}

template <class Options>
Options parsed(const std::string& line, const Environment& environment = nowhere()) {
  return std::get<Options>(parse_line(line, environment));
}

template <class Exception>
std::string refusal(const std::string& line, const Environment& environment = nowhere()) {
  try {
    parse_line(line, environment);
  } catch (const Exception& error) {
    return error.what();
  }
  return "not thrown";
}
std::string usage(const std::string& line) {
  return refusal<UsageError>(line);
}

// Writes a file, with its directory, and returns its path.
std::string write(const test::TemporaryDirectory& dir, const std::string& name, const std::string& text) {
  std::filesystem::path path = dir / name;
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path) << text;
  return path.string();
}

TEST_CASE("options stand before or after the command") {
  for (const char* line : {"dump -t 42 -D /img -R", "-t 42 dump -D /img -R", "-t42 -R -D/img dump",
                           "--tree=42 --images-dir /img --leave-running dump"}) {
    CAPTURE(line);
    auto options = parsed<DumpOptions>(line);
    CHECK(options.tree == 42);
    CHECK(options.common.images_dir == "/img");
    CHECK(options.leave_running);
  }
}

TEST_CASE("defaults of dump") {
  auto options = parsed<DumpOptions>("dump -t 1");
  CHECK(options.common.images_dir == ".");
  CHECK_FALSE(options.common.work_dir.has_value());
  CHECK(options.common.verbosity == 2);
  CHECK(options.timeout_s == 10);
  CHECK_FALSE(options.track_mem);
  CHECK_FALSE(options.page_server.enabled);
  CHECK(options.page_server.tls.verify_name);
  CHECK(options.pre_dump_mode == PreDumpMode::kSplice);
}

TEST_CASE("every common option reaches its field") {
  auto options = parsed<CheckOptions>(
      "check -D img -W work -o log -v4 --pidfile pid --action-script a --action-script b --all --feature "
      "list");
  CHECK(options.common.images_dir == "img");
  CHECK(options.common.work_dir == "work");
  CHECK(options.common.log_file == "log");
  CHECK(options.common.verbosity == 4);
  CHECK(options.common.pidfile == "pid");
  CHECK(options.common.action_scripts == std::vector<std::string>{"a", "b"});
  CHECK(options.extra);
  CHECK(options.experimental);
  CHECK(options.feature == "list");
}

TEST_CASE("every form of verbosity") {
  auto level = [](const std::string& flags) {
    return parsed<CheckOptions>("check " + flags).common.verbosity;
  };
  CHECK(level("-v") == 3);
  CHECK(level("-vv") == 4);
  CHECK(level("-v -v") == 4);
  CHECK(level("-v0") == 0);
  CHECK(level("-v4") == 4);
  CHECK(level("--verbosity") == 3);
  CHECK(level("--verbosity=1") == 1);
  CHECK(level("-v1 -v") == 2);
  CHECK(usage("check -v 4") == "-v 4: write -v4, without a space");
  CHECK(usage("check -vv 4") == "-vv 4: write -v4, without a space");
  CHECK(usage("check --verbosity 4") == "--verbosity 4: write --verbosity=4");
  CHECK(usage("check -v4x").find("not a verbosity level") != std::string::npos);
  CHECK(usage("check --verbosity=vv").find("not a verbosity level") != std::string::npos);
}

TEST_CASE("page server and TLS options") {
  auto options = parsed<PreDumpOptions>(
      "pre-dump -t 7 --prev-images-dir ../1 --pre-dump-mode read --page-server --address h --port 9999 --tls "
      "--tls-cacert ca --tls-cacrl crl --tls-cert cert --tls-key key --tls-no-cn-verify --ps-layout short");
  CHECK(options.track_mem);  // implied
  CHECK(options.prev_images_dir == "../1");
  CHECK(options.pre_dump_mode == PreDumpMode::kRead);
  CHECK(options.page_server.enabled);
  CHECK(options.page_server.address == "h");
  CHECK(options.page_server.port == 9999);
  CHECK(options.page_server.layout == PageServerLayout::kShort);
  const TlsOptions& tls = options.page_server.tls;
  CHECK(tls.enabled);
  CHECK(tls.ca_certificate == "ca");
  CHECK(tls.revocations == "crl");
  CHECK(tls.certificate == "cert");
  CHECK(tls.key == "key");
  CHECK_FALSE(tls.verify_name);
  auto server = parsed<PageServerCommandOptions>("page-server --daemon --lazy-pages --status-fd 5 --port 1");
  CHECK(server.daemon);
  CHECK(server.lazy_pages);
  CHECK(server.page_server.status_fd == 5);
  auto lazy = parsed<LazyPagesOptions>("lazy-pages --page-server --port 1 --timeout 3 --display-stats");
  CHECK(lazy.page_server.enabled);
  CHECK(lazy.timeout_s == 3);
  CHECK(lazy.display_stats);
}

TEST_CASE("restore and show") {
  auto options = parsed<RestoreOptions>("restore -d -S -s -j --lazy-pages --tcp-close --display-stats -t 9");
  CHECK(options.detached);
  CHECK(options.sibling);
  CHECK(options.leave_stopped);
  CHECK(options.shell_job);
  CHECK(options.lazy_pages);
  CHECK(options.tcp_close);
  CHECK(options.display_stats);
  CHECK(options.tree == 9);
  auto show = parsed<ShowOptions>("show -f core-1.img -c --format json -D /img");
  CHECK(show.file == "core-1.img");
  CHECK(show.page_contents);
  CHECK(show.json);
  CHECK(show.directory == "/img");
  CHECK_FALSE(parsed<ShowOptions>("show --file x").directory.has_value());
}

TEST_CASE("--no-X undoes an option that was given before, and the last word counts") {
  CHECK_FALSE(parsed<RestoreOptions>("restore -d --no-restore-detached").detached);
  CHECK(parsed<RestoreOptions>("restore --no-restore-detached -d").detached);
  CHECK(
      parsed<DumpOptions>("dump -t 1 --tls-no-cn-verify --no-tls-no-cn-verify").page_server.tls.verify_name);
  CHECK_FALSE(parsed<CheckOptions>("check --all --no-all").extra);
  auto options = parsed<DumpOptions>("dump -t 1 -R -s");
  CHECK(options.leave_stopped);
  CHECK_FALSE(options.leave_running);
}

// A command line that gives `option` to a command it belongs to, with an argument that a number or a word
// would take.
std::string line_with(const Option& option, const std::string& spelling) {
  std::string command = "dump";
  for (const CommandRow& row : command_table()) {
    if (row.availability == Availability::kAvailable && option.commands.contains(row.command))
      command = row.name;
  }
  if (option.commands.contains(Command::kDump)) command = "dump";
  std::string line = command + (command == "dump" || command == "pre-dump" ? " -t 1 --port 1" : "") +
                     (command == "show" ? " -D ." : "") + (option.name == "restore-sibling" ? " -d" : "");
  line += " " + spelling;
  if (option.argument == Argument::kRequired) {
    bool choice = option.name == "pre-dump-mode" || option.name == "ps-layout" || option.name == "format";
    line += !choice                      ? " 1"
            : option.name == "format"    ? " json"
            : option.name == "ps-layout" ? " long"
                                         : " read";
    if (option.name == "config") line = command + " -t 1 --config /dev/null";
  }
  return line;
}

TEST_CASE("every option of the table is accepted, or refused by name, and so is its --no- form") {
  for (const Option& option : option_table()) {
    std::vector<std::string> spellings{option.spelling()};
    if (option.letter != 0) spellings.push_back(std::string("-") + option.letter);
    if (option.negatable && !option.name.empty()) spellings.push_back("--no-" + std::string(option.name));
    for (const std::string& spelling : spellings) {
      std::string line = line_with(option, spelling);
      CAPTURE(line);
      if (option.availability == Availability::kAvailable) {
        CHECK_NOTHROW(parse_line(line));
      } else {
        CHECK(refusal<RefusedError>(line) == spelling + ": not available yet");
      }
    }
  }
}

TEST_CASE("commands of later issues are refused by name") {
  CHECK(refusal<RefusedError>("service") == "service: not available yet");
  CHECK(refusal<RefusedError>("swrk 3") == "swrk: not available yet");
  CHECK(refusal<RefusedError>("cpuinfo check") == "cpuinfo check: not available yet");
  CHECK(refusal<RefusedError>("exec -t 1 close 1") == "exec: not available yet");
}

TEST_CASE("wrong arguments are named") {
  CHECK(usage("dump -t abc") == "-t: not a process id: abc");
  CHECK(usage("dump --tree 0") == "--tree: not a process id: 0");
  CHECK(usage("dump -t 12x") == "-t: not a process id: 12x");
  CHECK(usage("page-server --port 65536") == "--port: not a port (1 to 65535): 65536");
  CHECK(usage("dump -t 1 --timeout -1") == "--timeout: not a number of seconds: -1");
  CHECK(usage("page-server --status-fd x") == "--status-fd: not a descriptor number: x");
  CHECK(usage("pre-dump -t 1 --pre-dump-mode fast") == "--pre-dump-mode: not splice or read: fast");
  CHECK(usage("dump -t 1 --ps-layout wide") == "--ps-layout: not short, long or probe: wide");
  CHECK(usage("dump -t") == "-t needs an argument: PID");
  CHECK(usage("dump --tree") == "--tree needs an argument: PID");
  CHECK(usage("dump -D ./x --images-dir=") == "--images-dir: an argument is required");
  CHECK(usage("dump -t 1 --tls=yes") == "--tls takes no argument: --tls=yes");
}

TEST_CASE("what is missing or does not fit together is named") {
  CHECK(usage("dump") == "dump: -t PID is required");
  CHECK(usage("pre-dump") == "pre-dump: -t PID is required");
  CHECK(usage("show") == "show: -f FILE or -D DIR is required");
  CHECK(usage("restore -S").find("only possible together with -d") != std::string::npos);
  CHECK(usage("dump -t 1 --page-server") == "dump: --page-server needs --port");
  CHECK(usage("dump -t 1 --lazy-pages").find("needs --port") != std::string::npos);
  CHECK(usage("dump -t 1 --lazy-pages --page-server --port 1").find("--page-server") != std::string::npos);
  CHECK(usage("") == "a command is required; criu -h lists them");
  CHECK(usage("cpuinfo") == "cpuinfo: dump or check is required after it");
}

TEST_CASE("unknown words bring a suggestion") {
  CHECK(usage("dump --leave-runing -t 1") == "unknown option --leave-runing; did you mean --leave-running?");
  CHECK(usage("dump -Z") == "unknown option -Z");
  CHECK(usage("dmup -t 1") == "unknown command dmup; did you mean dump?");
  CHECK(usage("restore here") == "restore: unexpected argument here");
  CHECK(usage("restore --leave") == "--leave is ambiguous: --leave-running, --leave-stopped");
  CHECK(parsed<DumpOptions>("dump -t 1 --leave-r").leave_running);  // an unambiguous beginning, as with criu
}

TEST_CASE("an option of another command is refused") {
  CHECK(usage("check --tcp-close") ==
        "check: --tcp-close does not belong to this command; it is for dump, restore");
  CHECK(usage("dump -t 1 -c") == "dump: -c does not belong to this command; it is for show");
}

TEST_CASE("help and version come before every complaint") {
  CHECK_FALSE(parsed<HelpRequest>("-h").command.has_value());
  CHECK(parsed<HelpRequest>("dump --bogus -h").command == Command::kDump);
  CHECK(parsed<HelpRequest>("--help cpuinfo check").command == Command::kCpuinfoCheck);
  CHECK(std::holds_alternative<VersionRequest>(parse_line("-V")));
  CHECK(std::holds_alternative<VersionRequest>(parse_line("dump --version")));
  CHECK(common_options(parse_line("-V")) == nullptr);
}

TEST_CASE("later places win: system, home, CRIU_CONFIG_FILE, --config, command line") {
  test::TemporaryDirectory dir;
  Environment environment;
  environment.system_config = write(dir, "etc/default.conf", "address system\n");
  auto address = [&](const std::string& more = "") {
    return parsed<PageServerCommandOptions>("page-server " + more, environment).page_server.address;
  };
  CHECK(address() == "system");
  write(dir, "home/.criu/default.conf", "address home");
  environment.home = dir.path() + "/home";
  CHECK(address() == "home");
  environment.config_file = write(dir, "environment.conf", "address environment");
  CHECK(address() == "environment");
  std::string given = "--config " + write(dir, "given.conf", "address given");
  CHECK(address(given) == "given");
  CHECK(address("--address line " + given) == "line");
}

TEST_CASE("--config replaces the default files only; --no-default-config leaves them out") {
  test::TemporaryDirectory dir;
  Environment environment;
  environment.system_config = write(dir, "etc/default.conf", "port 1\ntls\nlog-file system");
  environment.config_file = write(dir, "environment.conf", "pidfile environment");
  std::string given = write(dir, "given.conf", "address given");
  auto options = parsed<PageServerCommandOptions>("page-server --config " + given, environment);
  CHECK(options.page_server.port == 0);
  CHECK_FALSE(options.page_server.tls.enabled);
  CHECK(options.common.pidfile == "environment");
  CHECK(options.page_server.address == "given");
  auto without = parsed<PageServerCommandOptions>("page-server --no-default-config", environment);
  CHECK_FALSE(without.page_server.tls.enabled);
  CHECK(without.common.pidfile == "environment");
}

TEST_CASE(
    "files: the command line can undo them, other commands' options pass, wrong ones are named with their "
    "line") {
  test::TemporaryDirectory dir;
  Environment environment = nowhere();
  environment.config_file = write(dir, "c.conf", "tcp-close\nno-restore-sibling # x\nverbosity 4\n");
  CHECK(parsed<DumpOptions>("dump -t 1", environment).tcp_close);
  CHECK_FALSE(parsed<DumpOptions>("dump -t 1 --no-tcp-close", environment).tcp_close);
  CHECK(parsed<CheckOptions>("check", environment).common.verbosity == 4);
  write(dir, "c.conf", "\nfile-locks\n");
  CHECK(refusal<RefusedError>("dump -t 1", environment) ==
        dir.path() + "/c.conf:2: file-locks: not available yet");
  CHECK_NOTHROW(parse_line("check", environment));
  write(dir, "c.conf", "tree abc\n");
  CHECK(refusal<UsageError>("dump", environment) == dir.path() + "/c.conf:1: tree: not a process id: abc");
  write(dir, "c.conf", "config other\n");
  CHECK(refusal<UsageError>("check", environment) ==
        dir.path() + "/c.conf:1: config: only on the command line");
}

TEST_CASE("a named configuration file must be there, a default one need not") {
  Environment environment = nowhere();
  environment.home = "/dev/null";  // not even a directory
  CHECK_NOTHROW(parse_line("check", environment));
  CHECK(refusal<SystemError>("check --config /nonexistent/c.conf") ==
        "--config: openat(/nonexistent/c.conf): No such file or directory");
  environment.config_file = "/nonexistent/e.conf";
  CHECK(refusal<SystemError>("check", environment)
            .starts_with("CRIU_CONFIG_FILE: openat(/nonexistent/e.conf)"));
}

}  // namespace
}  // namespace godwit::options
