#include "engine/options/help_text.h"

#include <array>
#include <utility>

#include "engine/base/error.h"
#include "engine/options/option_table.h"

namespace godwit::options {
namespace {

constexpr size_t kWidth = 100;
constexpr size_t kTextColumn = 34;
constexpr std::string_view kNotYet = "(not available yet)";

constexpr std::pair<Group, std::string_view> kGroups[] = {
    {Group::kCommon, "Common options"},
    {Group::kTree, "Process tree"},
    {Group::kMemory, "Memory"},
    {Group::kPageServer, "Page server"},
    {Group::kTls, "TLS"},
    {Group::kFiles, "Files and external resources"},
    {Group::kNetwork, "Network"},
    {Group::kNamespaces, "Namespaces and mounts"},
    {Group::kCgroups, "Control groups"},
    {Group::kCheck, "check"},
    {Group::kShow, "show"},
};

// `left`, then `text` from its column on, broken at blanks; `left` gets a line of its own when it is too
// long.
std::string entry(const std::string& left, const std::string& text) {
  std::string result = left;
  size_t column = left.size();
  auto begin_line = [&] {
    result += '\n';
    column = 0;
  };
  if (column + 1 >= kTextColumn) begin_line();
  bool line_is_empty = true;
  for (size_t at = 0; at < text.size();) {
    size_t end = std::min(text.find(' ', at), text.size());
    std::string word = text.substr(at, end - at);
    if (!line_is_empty && column + 1 + word.size() > kWidth) {
      begin_line();
      line_is_empty = true;
    }
    if (line_is_empty) {
      result.append(kTextColumn - column, ' ');
      column = kTextColumn;
    } else {
      result += ' ';
      ++column;
    }
    result += word;
    column += word.size();
    line_is_empty = false;
    at = end + 1;
  }
  return result + '\n';
}

std::string option_entry(const Option& option) {
  std::string left = option.letter != 0 ? fmt::format("  -{}", option.letter) : "    ";
  if (!option.name.empty()) left += (option.letter != 0 ? ", --" : "  --") + std::string(option.name);
  if (option.argument == Argument::kRequired) left += fmt::format(" {}", option.placeholder);
  if (option.argument == Argument::kOptional) left += fmt::format("[={}]", option.placeholder);
  std::string text(option.help);
  if (option.availability == Availability::kLater) text += fmt::format(" {}", kNotYet);
  return entry(left, text);
}

std::string options_help(std::optional<Command> command) {
  std::string result;
  for (auto [group, title] : kGroups) {
    std::string entries;
    for (const Option& option : option_table()) {
      if (option.group != group || (command && !option.commands.contains(*command))) continue;
      entries += option_entry(option);
    }
    if (!entries.empty()) result += fmt::format("\n{}:\n{}", title, entries);
  }
  return result + "\nMost options without an argument can be negated: --no-display-stats.\n";
}

std::string commands_help() {
  std::string result = "\nCommands:\n";
  for (const CommandRow& row : command_table()) {
    std::string text(row.help);
    if (row.availability == Availability::kLater) text += fmt::format(" {}", kNotYet);
    result += entry(fmt::format("  {}", row.name), text);
  }
  return result;
}

}  // namespace

std::string help_text(std::optional<Command> command) {
  if (!command) {
    return "Usage: criu COMMAND [OPTION...]\n" + commands_help() + options_help(command) +
           "\ncriu COMMAND -h shows the options of one command.\n";
  }
  for (const CommandRow& row : command_table()) {
    if (row.command != *command) continue;
    std::string not_yet = row.availability == Availability::kLater ? fmt::format(" {}", kNotYet) : "";
    return fmt::format("Usage: criu {} [OPTION...]\n{}{}\n", row.name, row.help, not_yet) +
           options_help(command);
  }
  throw Error("a command without a row in the command table");
}

}  // namespace godwit::options
