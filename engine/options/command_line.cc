#include "engine/options/command_line.h"

#include <fcntl.h>
#include <getopt.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>

#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/options/config_file.h"
#include "engine/options/option_values.h"

namespace godwit::options {
namespace {

constexpr size_t kConfigLimit = 1 << 20;

// getopt_long's codes for long options: above every letter, one more for the --no- form.
constexpr int kFirstLongCode = 256;
constexpr int kPositional = 1;  // what getopt_long returns for a word that is no option, in "-" mode

// The table in getopt_long's form.
struct GetoptTable {
  std::string letters = "-:";  // words in place (options may follow the command), no messages of its own
  std::vector<std::string> names;
  std::vector<struct option> longs;
};

GetoptTable getopt_table() {
  GetoptTable table;
  std::span<const Option> options = option_table();
  table.names.reserve(2 * options.size());  // longs point into it
  auto add = [&](std::string name, Argument argument, int code) {
    table.names.push_back(std::move(name));
    int kind = argument == Argument::kNone       ? no_argument
               : argument == Argument::kRequired ? required_argument
                                                 : optional_argument;
    table.longs.push_back({table.names.back().c_str(), kind, nullptr, code});
  };
  for (size_t i = 0; i < options.size(); ++i) {
    const Option& option = options[i];
    int code = kFirstLongCode + 2 * static_cast<int>(i);
    if (!option.name.empty()) {
      add(std::string(option.name), option.argument, code);
      if (option.negatable) add("no-" + std::string(option.name), Argument::kNone, code + 1);
    }
    if (option.letter != 0) {
      table.letters += option.letter;
      if (option.argument == Argument::kRequired) table.letters += ":";
      if (option.argument == Argument::kOptional) table.letters += "::";
    }
  }
  table.longs.push_back({});
  return table;
}

struct CommandLine {
  std::vector<Setting> settings;
  std::vector<std::string> words;  // the command and what follows it that is no option
};

Setting setting_of(int code) {
  Setting setting;
  if (code >= kFirstLongCode) {
    setting.option = &option_table()[static_cast<size_t>(code - kFirstLongCode) / 2];
    setting.negated = (code - kFirstLongCode) % 2 == 1;
    setting.spelling = (setting.negated ? "--no-" : "--") + std::string(setting.option->name);
  } else {
    setting.option = find_option(static_cast<char>(code));
    setting.spelling = std::string("-") + static_cast<char>(code);
  }
  if (optarg != nullptr) setting.argument = optarg;
  return setting;
}

// Why getopt_long did not know the option that it stands at.
[[noreturn]] void refuse_unknown(const GetoptTable& table, const std::string& word) {
  if (optopt >= kFirstLongCode)
    throw UsageError("{} takes no argument: {}", setting_of(optopt).spelling, word);
  if (optopt != 0) throw UsageError("unknown option -{}", static_cast<char>(optopt));
  std::string name = word.substr(2, word.find('=') - 2);
  std::string meant;
  for (const std::string& known : table.names) {
    if (known.starts_with(name)) meant += (meant.empty() ? "--" : ", --") + known;
  }
  if (!meant.empty()) throw UsageError("--{} is ambiguous: {}", name, meant);
  auto near = nearest_option(name);
  throw UsageError("unknown option --{}{}", name, near ? "; did you mean " + *near + "?" : "");
}

CommandLine read_command_line(const std::vector<std::string>& arguments) {
  const GetoptTable table = getopt_table();
  std::vector<std::string> copies = arguments;
  std::vector<char*> argv;
  argv.reserve(copies.size() + 1);
  for (std::string& copy : copies) argv.push_back(copy.data());
  argv.push_back(nullptr);
  int argc = static_cast<int>(copies.size());
  CommandLine line;
  optind = 0;  // glibc: begin again
  for (;;) {
    int code = ::getopt_long(argc, argv.data(), table.letters.c_str(), table.longs.data(), nullptr);
    if (code == -1) break;
    if (code == '?') refuse_unknown(table, argv[static_cast<size_t>(optind) - 1]);
    if (code == ':') {
      Setting setting = setting_of(optopt);
      throw UsageError("{} needs an argument: {}", setting.spelling, setting.option->placeholder);
    }
    if (code == kPositional) {
      line.words.emplace_back(optarg);
    } else {
      line.settings.push_back(setting_of(code));
    }
  }
  for (auto i = static_cast<size_t>(optind); i < copies.size(); ++i) line.words.emplace_back(argv[i]);
  return line;
}

// The arguments that may be options: without the program's name and what follows "--".
std::span<const std::string> before_double_dash(const std::vector<std::string>& arguments) {
  auto begin = arguments.empty() ? arguments.begin() : arguments.begin() + 1;
  return {begin, std::find(begin, arguments.end(), "--")};
}

// Until 2013 "-v 4" was the way to say -v4; read as today it would be -v and a stray word.
void refuse_separate_level(std::span<const std::string> arguments) {
  for (size_t i = 0; i + 1 < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    const std::string& next = arguments[i + 1];
    bool level_next = !next.empty() && next.find_first_not_of("0123456789") == std::string::npos;
    if (!level_next) continue;
    if (word.starts_with("-v") && word.find_first_not_of('v', 1) == std::string::npos) {
      throw UsageError("{} {}: write -v{}, without a space", word, next, next);
    }
    if (word == "--verbosity") throw UsageError("--verbosity {}: write --verbosity={}", next, next);
  }
}

bool asks_for(std::span<const std::string> arguments, std::string_view name, std::string_view letter) {
  return std::ranges::any_of(arguments,
                             [&](const std::string& word) { return word == name || word == letter; });
}

const CommandRow* command_of(const std::vector<std::string>& words, size_t& used) {
  if (words.empty()) return nullptr;
  used = 1;
  if (words[0] == "cpuinfo" && words.size() > 1) {
    used = 2;
    return find_command("cpuinfo " + words[1]);
  }
  return find_command(words[0]);
}

HelpRequest help_request(std::span<const std::string> arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    std::vector<std::string> words(arguments.begin() + static_cast<ptrdiff_t>(i), arguments.end());
    size_t used = 0;
    if (const CommandRow* row = command_of(words, used)) return {row->command};
  }
  return {};
}

Command required_command(const std::vector<std::string>& words) {
  if (words.empty()) throw UsageError("a command is required; criu -h lists them");
  size_t used = 0;
  const CommandRow* row = command_of(words, used);
  if (row == nullptr) {
    if (words[0] == "cpuinfo") throw UsageError("cpuinfo: dump or check is required after it");
    std::vector<std::string_view> names;
    for (const CommandRow& known : command_table()) names.push_back(known.name);
    auto near = nearest_name(words[0], names);
    throw UsageError("unknown command {}{}", words[0], near ? "; did you mean " + *near + "?" : "");
  }
  if (row->availability == Availability::kLater) throw RefusedError("{}: not available yet", row->name);
  if (words.size() > used) throw UsageError("{}: unexpected argument {}", row->name, words[used]);
  return row->command;
}

void append(std::vector<Setting>& settings, std::vector<Setting> more) {
  std::ranges::move(more, std::back_inserter(settings));
}

// Nothing when the file is not there; a directory on its way that is none counts as not there.
std::vector<Setting> read_default_config(const std::string& path) {
  try {
    auto text = read_file_if_exists(AT_FDCWD, path, kConfigLimit);
    return text ? parse_config(*text, path) : std::vector<Setting>();
  } catch (const SystemError& error) {
    if (error.code() == ENOTDIR) return {};
    throw;
  }
}

std::vector<Setting> read_named_config(const std::string& path, const char* named_by) {
  ErrorContext context{"{}", named_by};
  return parse_config(read_file(AT_FDCWD, path, kConfigLimit), path);
}

std::vector<Setting> read_config_files(const CommandLine& line, const Environment& environment) {
  const Option* config = find_option("config");
  const Option* no_default = find_option("no-default-config");
  std::optional<std::string> chosen;
  bool read_defaults = true;
  for (const Setting& setting : line.settings) {
    if (setting.option == config) chosen = setting.argument;
    if (setting.option == config || setting.option == no_default) read_defaults = false;
  }
  std::vector<Setting> settings;
  if (read_defaults) {
    append(settings, read_default_config(environment.system_config));
    if (environment.home) append(settings, read_default_config(*environment.home + "/.criu/default.conf"));
  }
  if (environment.config_file)
    append(settings, read_named_config(*environment.config_file, "CRIU_CONFIG_FILE"));
  if (chosen) append(settings, read_named_config(*chosen, "--config"));
  return settings;
}

std::string commands_of(const Option& option) {
  std::string names;
  for (const CommandRow& row : command_table()) {
    if (option.commands.contains(row.command)) names += (names.empty() ? "" : ", ") + std::string(row.name);
  }
  return names;
}

void apply(Values& values, const Setting& setting, Command command) {
  const Option& option = *setting.option;
  bool from_file = !setting.source.empty();
  if (!option.commands.contains(command)) {
    if (from_file) return;  // a configuration file serves every command
    throw UsageError("{}: {} does not belong to this command; it is for {}", command_name(command),
                     setting.spelling, commands_of(option));
  }
  if (option.availability == Availability::kLater) {
    throw RefusedError("{}{}: not available yet", place_of(setting), setting.spelling);
  }
  if (option.store == nullptr) {  // --config, --help and the like, which were looked at before
    if (from_file) throw UsageError("{}{}: only on the command line", place_of(setting), setting.spelling);
    return;
  }
  option.store(values, setting);
}

}  // namespace

Environment Environment::of_process() {
  Environment environment;
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') environment.home = home;
  if (const char* file = std::getenv("CRIU_CONFIG_FILE"); file != nullptr && *file != '\0') {
    environment.config_file = file;
  }
  return environment;
}

Request parse(const std::vector<std::string>& arguments, const Environment& environment) {
  auto candidates = before_double_dash(arguments);
  // As with criu, help comes before every complaint.
  if (asks_for(candidates, "--help", "-h")) return help_request(candidates);
  refuse_separate_level(candidates);
  CommandLine line = read_command_line(arguments);
  for (const Setting& setting : line.settings) {
    if (setting.option->name == "help") return help_request(candidates);
    if (setting.option->name == "version") return VersionRequest{};
  }
  Command command = required_command(line.words);
  Values values;
  for (const Setting& setting : read_config_files(line, environment)) apply(values, setting, command);
  for (const Setting& setting : line.settings) apply(values, setting, command);
  return make_request(command, values);
}

}  // namespace godwit::options
