#include "migrate/arguments.h"

#include <getopt.h>

#include <charconv>
#include <span>

#include "engine/base/error.h"
#include "engine/options/option_table.h"

namespace godwit::migrate {
namespace {

enum Command : unsigned { kRun = 1, kAgent = 2, kCheck = 4 };

// Everything that options can say, before it is sorted into the options of one command.
struct Values {
  RunOptions run;
  AgentOptions agent;
  tls::CredentialFiles credentials;
  bool tree_given = false, to_given = false;
};

// One option: a row here is all that parsing and help know of it.
struct Row {
  const char* name;
  char letter;
  const char* placeholder;  // nullptr: no argument
  unsigned commands;
  const char* help;
  void (*store)(Values&, const std::string&);  // nullptr: not available yet
};

template <class Number>
Number number_of(const std::string& text, Number least, Number most) {
  Number number{};
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (code != std::errc{} || end != text.data() + text.size() || number < least || number > most) {
    throw UsageError("not a number from {} to {}: {}", least, most, text);
  }
  return number;
}

void store_mode(Values& values, const std::string& text) {
  if (text == "hybrid") throw RefusedError("--mode hybrid: not available yet");
  if (text != "precopy" && text != "postcopy") throw UsageError("not precopy or postcopy: {}", text);
  values.run.mode = text == "precopy" ? Mode::kPrecopy : Mode::kPostcopy;
}

void store_to(Values& values, const std::string& text) {
  Endpoint endpoint = parse_endpoint(text);
  if (endpoint.host.empty()) throw UsageError("a host is required: {}", text);
  values.run.host = endpoint.host;
  values.run.port = endpoint.port;
  values.to_given = true;
}

void store_listen(Values& values, const std::string& text) {
  Endpoint endpoint = parse_endpoint(text);
  values.agent.address = endpoint.host == "*" ? "" : endpoint.host;
  values.agent.port = endpoint.port;
}

constexpr unsigned kSource = kRun | kCheck;
constexpr unsigned kAll = kRun | kCheck | kAgent;

const Row kRows[] = {
    {"tree", 't', "PID", kSource, "the process to move, with all its children",
     [](Values& v, const std::string& a) {
       v.run.tree = number_of<pid_t>(a, 1, 4 << 20);
       v.tree_given = true;
     }},
    {"to", 0, "HOST[:PORT]", kSource, "the agent to move it to (port 27185)", store_to},
    {"mode", 0, "MODE", kSource, "precopy (default) or postcopy", store_mode},
    {"downtime-limit", 0, "MS", kRun, "end the pre-copy when the expected downtime is below (300)",
     [](Values& v, const std::string& a) {
       v.run.limits.downtime = number_of<unsigned>(a, 1, 3'600'000) / 1e3;
     }},
    {"max-rounds", 0, "N", kRun, "pre-copy rounds at most (10)",
     [](Values& v, const std::string& a) { v.run.limits.max_rounds = number_of<unsigned>(a, 1, 1000); }},
    {"timeout", 0, "SECONDS", kSource, "for the freeze, and for each answer of the agent (30)",
     [](Values& v, const std::string& a) {
       v.run.timeout = std::chrono::seconds(number_of<int>(a, 1, 86'400));
     }},
    {"shell-job", 'j', nullptr, kRun, "the root task is not a session leader",
     [](Values& v, const std::string&) { v.run.shell_job = true; }},
    {"tcp-close", 0, nullptr, kRun, "established TCP connections come back closed",
     [](Values& v, const std::string&) { v.run.tcp_close = true; }},
    {"pre-commit", 0, "COMMAND", kRun, "run here when all is restored; failure rolls back",
     [](Values& v, const std::string& a) { v.run.pre_commit = a; }},
    {"post-commit", 0, "COMMAND", kRun, "run here when the tree runs there, as to move an address",
     [](Values& v, const std::string& a) { v.run.post_commit = a; }},
    {"json", 0, nullptr, kSource, "the report as JSON on standard output, progress on standard error",
     [](Values& v, const std::string&) { v.run.json = true; }},
    {"listen", 0, "ADDRESS:PORT", kAgent, "where to listen (all addresses, port 27185)", store_listen},
    {"address", 0, "ADDRESS", kAgent, "the same in two options",
     [](Values& v, const std::string& a) { v.agent.address = a; }},
    {"port", 0, "PORT", kAgent, "",
     [](Values& v, const std::string& a) { v.agent.port = number_of<uint16_t>(a, 0, 65535); }},
    {"allow", 0, "NAME", kAgent, "common name of a certificate that may move here; repeatable (any)",
     [](Values& v, const std::string& a) { v.agent.allow.push_back(a); }},
    {"max-moves", 0, "N", kAgent, "moves at the same time (16)",
     [](Values& v, const std::string& a) { v.agent.max_moves = number_of<unsigned>(a, 1, 1000); }},
    {"pidfile", 0, "FILE", kAgent, "write the agent's pid there",
     [](Values& v, const std::string& a) { v.agent.pidfile = a; }},
    {"status-fd", 0, "FD", kAgent, "write a NUL there once moves can come",
     [](Values& v, const std::string& a) { v.agent.status_fd = number_of<int>(a, 0, 1 << 20); }},
    {"work-dir", 'W', "DIR", kAll, "journals, and the agent's images (/var/lib/godwit/...)",
     [](Values& v, const std::string& a) { v.run.work_dir = v.agent.work_dir = a; }},
    {"action-script", 0, "COMMAND", kRun | kAgent, "run at every stage of dump or restore; repeatable",
     [](Values& v, const std::string& a) {
       v.run.action_scripts.push_back(a);
       v.agent.action_scripts.push_back(a);
     }},
    {"tls-cert", 0, "FILE", kAll, "our certificate (/etc/pki/criu/cert.pem)",
     [](Values& v, const std::string& a) { v.credentials.certificate = a; }},
    {"tls-key", 0, "FILE", kAll, "its key (/etc/pki/criu/private/key.pem)",
     [](Values& v, const std::string& a) { v.credentials.key = a; }},
    {"tls-cacert", 0, "FILE", kAll, "the authority to trust (/etc/pki/CA/cacert.pem)",
     [](Values& v, const std::string& a) { v.credentials.ca = a; }},
    {"tls-cacrl", 0, "FILE", kAll, "revoked certificates (/etc/pki/CA/cacrl.pem)",
     [](Values& v, const std::string& a) { v.credentials.crl = a; }},
    {"tls-no-cn-verify", 0, nullptr, kSource, "do not compare the agent's certificate with HOST",
     [](Values& v, const std::string&) { v.run.verify_name = false; }},
    {"verbosity", 'v', "LEVEL", kAll, "log to standard error: 0 nothing ... 4 debug",
     [](Values& v, const std::string& a) { v.run.verbosity = v.agent.verbosity = number_of<int>(a, 0, 4); }},
    {"bandwidth", 0, "MIB", kRun, "cap the rate", nullptr},
    {"auto-converge", 0, nullptr, kRun, "slow the tree down when it outruns the link", nullptr},
    {"sync", 0, "PATH", kRun, "copy files before and in the freeze", nullptr},
    {"new-pidns", 0, nullptr, kRun, "restore in a new pid namespace", nullptr},
};

struct CommandRow {
  const char* name;
  unsigned command;  // 0: not available yet
  const char* help;
};
constexpr CommandRow kCommands[] = {
    {"run", kRun, "move a running process tree to another host"},
    {"check", kCheck, "everything that run does up to the freeze; changes nothing"},
    {"agent", kAgent, "take moves on the destination"},
    {"status", 0, "read a running move"},
    {"cancel", 0, "end a move before its commit"},
    {"report", 0, "what happened, as JSON or HTML"},
    {"resolve", 0, "the operator's word on an undecided move"},
};

constexpr const char* kExitCodes =
    "Exit status of run and check: 0 moved (or nothing in the way), 1 rolled back, the tree runs here, 2 "
    "usage,\n"
    "3 the tree runs there but something after the commit failed, 5 the preflight found things in the way.\n";

std::string option_line(const Row& row) {
  std::string left = row.letter != 0 ? fmt::format("  -{}, --{}", row.letter, row.name)
                                     : fmt::format("      --{}", row.name);
  if (row.placeholder != nullptr) left += fmt::format(" {}", row.placeholder);
  return fmt::format("{:<34} {}{}\n", left, row.help, row.store == nullptr ? " (not available yet)" : "");
}

std::string help_text(const CommandRow* command) {
  std::string text = "Usage: migrate COMMAND [OPTIONS]\n";
  if (command == nullptr) {
    for (const auto& row : kCommands) {
      text +=
          fmt::format("  {:<10} {}{}\n", row.name, row.help, row.command == 0 ? " (not available yet)" : "");
    }
    return text + "migrate COMMAND -h shows its options.\n";
  }
  text = fmt::format("Usage: migrate {} [OPTIONS]: {}\n", command->name, command->help);
  for (const auto& row : kRows) {
    if ((row.commands & command->command) != 0) text += option_line(row);
  }
  return command->command == kAgent ? text : text + kExitCodes;
}

const CommandRow& find_command(const std::string& name) {
  std::vector<std::string_view> names;
  for (const auto& row : kCommands) {
    if (name == row.name) {
      if (row.command == 0) throw RefusedError("{}: not available yet", name);
      return row;
    }
    names.emplace_back(row.name);
  }
  auto near = options::nearest_name(name, names);
  throw UsageError("unknown command {}{}", name, near ? "; did you mean " + *near + "?" : "");
}

[[noreturn]] void refuse_unknown(const std::string& word) {
  std::string name = word.substr(0, word.find('='));
  std::vector<std::string_view> names;
  for (const auto& row : kRows) names.emplace_back(row.name);
  auto near = name.starts_with("--") ? options::nearest_name(name.substr(2), names) : std::nullopt;
  throw UsageError("unknown option {}{}", name, near ? "; did you mean --" + *near + "?" : "");
}

void store_option(const Row& row, const CommandRow& command, Values& values, const char* argument) {
  if ((row.commands & command.command) == 0)
    throw UsageError("--{} is no option of {}", row.name, command.name);
  if (row.store == nullptr) throw RefusedError("--{}: not available yet", row.name);
  std::string text = argument == nullptr ? "" : argument;
  if (row.placeholder != nullptr && text.empty()) throw UsageError("--{}: an argument is required", row.name);
  try {
    row.store(values, text);
  } catch (const UsageError& error) {
    throw UsageError("--{}: {}", row.name, error.what());
  }
}

constexpr int kFirstLongCode = 256;

// Calls store_option for every option. True when help is asked for.
bool read_options(std::vector<std::string> words, const CommandRow& command, Values& values) {
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::string letters = "+:h";
  std::vector<struct option> longs;
  for (const auto& row : kRows) {
    int code = kFirstLongCode + static_cast<int>(longs.size());
    longs.push_back({row.name, row.placeholder != nullptr ? required_argument : no_argument, nullptr, code});
    if (row.letter == 0) continue;
    letters += row.letter;
    if (row.placeholder != nullptr) letters += ':';
  }
  longs.push_back({"help", no_argument, nullptr, 'h'});
  longs.push_back({});
  optind = 0;
  for (;;) {
    int code =
        ::getopt_long(static_cast<int>(words.size()), argv.data(), letters.c_str(), longs.data(), nullptr);
    if (code == -1) break;
    if (code == 'h') return true;
    const std::string& word = words[static_cast<size_t>(optind) - 1];
    if (code == '?') refuse_unknown(word);
    if (code == ':') throw UsageError("{} needs an argument", word);
    for (size_t i = 0; i < std::size(kRows); ++i) {
      if (code == kFirstLongCode + static_cast<int>(i) || code == kRows[i].letter) {
        store_option(kRows[i], command, values, optarg);
      }
    }
  }
  if (static_cast<size_t>(optind) < words.size()) {
    throw UsageError("{}: unexpected argument {}", command.name, argv[static_cast<size_t>(optind)]);
  }
  return false;
}

}  // namespace

Endpoint parse_endpoint(const std::string& text) {
  Endpoint endpoint;
  std::string port;
  if (text.starts_with('[')) {
    size_t end = text.find(']');
    if (end == std::string::npos) throw UsageError("no ] after the address: {}", text);
    endpoint.host = text.substr(1, end - 1);
    port = text.substr(end + 1);
    if (!port.empty() && port.front() != ':') throw UsageError("not [ADDRESS]:PORT: {}", text);
  } else if (size_t colon = text.find(':'); colon != std::string::npos) {
    endpoint.host = text.substr(0, colon);
    port = text.substr(colon);
    // An IPv6 address without brackets has no port behind it.
    if (port.find(':', 1) != std::string::npos) return {text};
  } else {
    endpoint.host = text;
  }
  if (!port.empty()) endpoint.port = number_of<uint16_t>(port.substr(1), 0, 65535);
  return endpoint;
}

Invocation parse_arguments(const std::vector<std::string>& arguments) {
  if (arguments.size() < 2) throw UsageError("a command is required; migrate -h lists them");
  if (arguments[1] == "-h" || arguments[1] == "--help") return HelpText{help_text(nullptr)};
  if (arguments[1] == "-V" || arguments[1] == "--version") return HelpText{"godwit " GODWIT_VERSION "\n"};
  const CommandRow& command = find_command(arguments[1]);
  Values values;
  if (read_options({arguments.begin() + 1, arguments.end()}, command, values))
    return HelpText{help_text(&command)};
  if (command.command == kAgent) {
    values.agent.credentials = values.credentials;
    return values.agent;
  }
  if (!values.tree_given) throw UsageError("{}: --tree PID is required", command.name);
  if (!values.to_given) throw UsageError("{}: --to HOST[:PORT] is required", command.name);
  values.run.credentials = values.credentials;
  values.run.check_only = command.command == kCheck;
  return values.run;
}

}  // namespace godwit::migrate
