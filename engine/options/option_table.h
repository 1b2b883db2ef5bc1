#pragma once

#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "engine/options/commands_options.h"

// The one table of options. The command line, configuration files, help and `--no-X` are all read from it, so
// they cannot disagree. To add an option: a row here, a field in commands_options.h, a store function in
// option_values.
namespace godwit::options {

// A set of commands.
class CommandSet {
 public:
  constexpr CommandSet() = default;
  constexpr CommandSet(std::initializer_list<Command> commands) {
    for (Command command : commands) bits_ |= bit(command);
  }
  // Options of every command, as the manual's "Common options".
  static constexpr CommandSet all() {
    CommandSet set;
    set.bits_ = ~0u;
    return set;
  }
  constexpr bool contains(Command command) const { return (bits_ & bit(command)) != 0; }
  constexpr bool is_all() const { return bits_ == ~0u; }

 private:
  static constexpr unsigned bit(Command command) { return 1u << static_cast<unsigned>(command); }
  unsigned bits_ = 0;
};

enum class Argument { kNone, kRequired, kOptional };
enum class Availability { kAvailable, kLater };

// Where help lists an option.
enum class Group {
  kCommon,
  kTree,
  kMemory,
  kPageServer,
  kTls,
  kFiles,
  kNetwork,
  kNamespaces,
  kCgroups,
  kCheck,
  kShow
};

// One option as it was given somewhere, before its argument is checked.
struct Setting {
  const struct Option* option = nullptr;
  std::optional<std::string> argument;
  bool negated = false;  // --no-X
  std::string spelling;  // "-t", "--tree", "--no-tls": as the user wrote it, for errors
  std::string source;    // "FILE:LINE" of a configuration file; empty for the command line
};

struct Values;

struct Option {
  std::string_view name;  // without dashes; empty for an option that has only a letter
  char letter = 0;        // 0: none
  Argument argument = Argument::kNone;
  std::string_view placeholder;
  CommandSet commands;
  Group group = Group::kCommon;
  std::string_view help;
  Availability availability = Availability::kLater;
  bool negatable = false;  // an on/off option: --no-NAME exists
  void (*store)(Values&,
                const Setting&) = nullptr;  // checks the argument; null for later and for -h, -V, --config

  // "--tree", or "-c" where there is only a letter.
  std::string spelling() const;
};

std::span<const Option> option_table();
// By long name without dashes, exact. nullptr when there is none.
const Option* find_option(std::string_view name);
const Option* find_option(char letter);

struct CommandRow {
  Command command;
  std::string_view name;  // as written on the command line, "cpuinfo dump" with its second word
  std::string_view help;
  Availability availability;
};
std::span<const CommandRow> command_table();
std::string_view command_name(Command command);
// By the first word of the command line ("cpuinfo" finds none: it takes two words).
const CommandRow* find_command(std::string_view name);

// The name in `candidates` that the user most likely meant, if one is near (an edit or two away).
std::optional<std::string> nearest_name(std::string_view wrong, std::span<const std::string_view> candidates);
// The same over all options, with "no-" forms; the answer has its dashes.
std::optional<std::string> nearest_option(std::string_view wrong_name);

}  // namespace godwit::options
