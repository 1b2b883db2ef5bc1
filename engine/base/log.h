#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

// The log of a command: CRIU's verbosity levels over spdlog. One line per message; from kInfo on with the
// seconds since the start, as operators know it from criu.
namespace godwit::log {

enum class Level { kNothing = 0, kError = 1, kWarning = 2, kInfo = 3, kDebug = 4 };

// Sends the log to `fd` (borrowed) at this level from now on. Not thread-safe: call it before threads start.
void open(int fd, Level level);
// Puts a word in front of every line of this process ("lazy-pages: ").
void set_prefix(std::string prefix);
bool enabled(Level level);
// Writes one finished line; prefer the functions below.
void write(Level level, const std::string& text);

template <class... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kError)) write(Level::kError, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void warning(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kWarning)) write(Level::kWarning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kInfo)) write(Level::kInfo, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::kDebug)) write(Level::kDebug, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace godwit::log
