#include "engine/options/config_file.h"

#include <algorithm>

#include "engine/base/error.h"

namespace godwit::options {
namespace {

constexpr std::string_view kBlanks = " \t\r\v\f";

std::string_view without_leading_blanks(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of(kBlanks), text.size()));
}

bool is_blank_or_comment(std::string_view text) {
  text = without_leading_blanks(text);
  return text.empty() || text.front() == '#';
}

// One line in the making: knows where it is for error messages.
class Line {
 public:
  Line(std::string_view text, std::string source) : text_(text), source_(std::move(source)) {}

  std::optional<Setting> parse() const {
    if (is_blank_or_comment(text_)) return std::nullopt;
    std::string_view rest = without_leading_blanks(text_);
    std::string_view name = rest.substr(0, rest.find_first_of(" \t\r\v\f#"));
    Setting setting = named(name);
    setting.source = source_;
    setting.argument = argument(rest.substr(name.size()));
    check_argument(setting);
    return setting;
  }

 private:
  [[noreturn]] void refuse(const std::string& why) const { throw UsageError("{}: {}", source_, why); }

  Setting named(std::string_view name) const {
    Setting setting;
    setting.option = find_option(name);
    if (setting.option == nullptr && name.starts_with("no-")) {
      setting.option = find_option(name.substr(3));
      setting.negated = setting.option != nullptr && setting.option->negatable;
      if (!setting.negated) setting.option = nullptr;
    }
    if (setting.option == nullptr) refuse_name(name);
    setting.spelling = std::string(name);
    return setting;
  }

  [[noreturn]] void refuse_name(std::string_view name) const {
    if (find_command(name) != nullptr || name == "cpuinfo") {
      refuse(fmt::format("{}: commands are not allowed in configuration files", name));
    }
    if (name.starts_with("-")) refuse(fmt::format("{}: options stand here without their dashes", name));
    auto near = nearest_option(name);
    refuse(fmt::format("unknown option {}{}", name, near ? "; did you mean " + near->substr(2) + "?" : ""));
  }

  // The argument after an option's name, quotes and comment taken off.
  std::optional<std::string> argument(std::string_view rest) const {
    rest = without_leading_blanks(rest);
    if (is_blank_or_comment(rest)) return std::nullopt;
    if (rest.front() == '"') return quoted(rest.substr(1));
    std::string_view word = rest.substr(0, rest.find_first_of(" \t\r\v\f#"));
    if (!is_blank_or_comment(rest.substr(word.size()))) {
      refuse(fmt::format("an argument with white space needs double quotes: {}", rest));
    }
    return unescaped(word);
  }

  std::string quoted(std::string_view rest) const {
    for (size_t i = 0; i < rest.size(); ++i) {
      if (rest[i] != '"' || (i > 0 && rest[i - 1] == '\\')) continue;
      if (!is_blank_or_comment(rest.substr(i + 1))) refuse("only a comment may follow the closing quote");
      return unescaped(rest.substr(0, i));
    }
    refuse("a closing quote is missing");
  }

  static std::string unescaped(std::string_view text) {
    std::string result;
    for (size_t i = 0; i < text.size(); ++i) {
      if (text[i] == '\\' && i + 1 < text.size() && text[i + 1] == '"') continue;
      result += text[i];
    }
    return result;
  }

  void check_argument(const Setting& setting) const {
    Argument kind = setting.option->argument;
    if (kind == Argument::kNone && setting.argument) refuse(setting.spelling + " takes no argument");
    if (kind == Argument::kRequired && !setting.argument) {
      refuse(fmt::format("{} needs an argument: {}", setting.spelling, setting.option->placeholder));
    }
  }

  std::string_view text_;
  std::string source_;
};

}  // namespace

std::vector<Setting> parse_config(std::string_view text, const std::string& path) {
  std::vector<Setting> settings;
  for (size_t number = 1; !text.empty(); ++number) {
    size_t length = std::min(text.find('\n'), text.size());
    Line line(text.substr(0, length), fmt::format("{}:{}", path, number));
    if (auto setting = line.parse()) settings.push_back(std::move(*setting));
    text.remove_prefix(std::min(length + 1, text.size()));
  }
  return settings;
}

}  // namespace godwit::options
