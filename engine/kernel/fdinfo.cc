#include "engine/kernel/fdinfo.h"

#include <optional>

#include "engine/base/error.h"
#include "engine/kernel/text_fields.h"

namespace godwit::kernel {
namespace {

// The value of the first line "KEY:   VALUE", without blanks around it.
std::optional<std::string_view> field_if_there(std::string_view text, std::string_view key) {
  while (!text.empty()) {
    std::string_view line = take_until(text, '\n');
    if (take_until(line, ':') != key) continue;
    size_t begin = line.find_first_not_of(" \t");
    if (begin == std::string_view::npos) return std::string_view{};
    return line.substr(begin, line.find_last_not_of(" \t") - begin + 1);
  }
  return std::nullopt;
}

std::string_view field(std::string_view text, const char* key) {
  if (auto value = field_if_there(text, key)) return *value;
  throw FormatError("fdinfo: no line '{}'", key);
}

// "(SECONDS, NANOSECONDS)"
void parse_time(std::string_view text, const char* what, uint64_t& seconds, uint64_t& nanoseconds) {
  if (text.size() < 2 || text.front() != '(' || text.back() != ')') {
    throw FormatError("fdinfo {}: not a time: '{}'", what, text);
  }
  text = text.substr(1, text.size() - 2);
  seconds = parse_number<uint64_t>(take_until(text, ','), what);
  nanoseconds = parse_number<uint64_t>(take_word(text), what);
  if (nanoseconds >= 1'000'000'000) throw FormatError("fdinfo {}: {} nanoseconds", what, nanoseconds);
}

// Cuts "KEY:VALUE" off the front; blanks may stand after the colon.
std::string_view take_named(std::string_view& line, std::string_view key) {
  std::string_view found = take_until(line, ':');
  size_t begin = found.find_first_not_of(" \t");
  if (begin == std::string_view::npos || found.substr(begin) != key) {
    throw FormatError("fdinfo tfd: '{}' where '{}' must stand", found, key);
  }
  return take_word(line);
}

EpollTarget parse_epoll_target(std::string_view line) {
  EpollTarget target;
  target.number = parse_number<int>(take_named(line, "tfd"), "fdinfo tfd");
  target.events = parse_number<uint32_t>(take_named(line, "events"), "fdinfo events", 16);
  target.data = parse_number<uint64_t>(take_named(line, "data"), "fdinfo data", 16);
  // The three fields of Linux 4.7.
  target.position = static_cast<uint64_t>(parse_number<int64_t>(take_named(line, "pos"), "fdinfo pos"));
  target.inode = parse_number<uint64_t>(take_named(line, "ino"), "fdinfo ino", 16);
  target.device = parse_number<uint32_t>(take_named(line, "sdev"), "fdinfo sdev", 16);
  return target;
}

}  // namespace

FdInfo parse_fdinfo(std::string_view text) {
  FdInfo info;
  info.position = static_cast<uint64_t>(parse_number<int64_t>(field(text, "pos"), "fdinfo pos"));
  info.flags = parse_number<uint32_t>(field(text, "flags"), "fdinfo flags", 8);
  info.mount_id = parse_number<int>(field(text, "mnt_id"), "fdinfo mnt_id");
  return info;
}

EventfdInfo parse_eventfd_info(std::string_view text) {
  EventfdInfo info;
  info.count = parse_number<uint64_t>(field(text, "eventfd-count"), "fdinfo eventfd-count", 16);
  if (auto semaphore = field_if_there(text, "eventfd-semaphore")) info.semaphore = *semaphore == "1";
  return info;
}

TimerfdInfo parse_timerfd_info(std::string_view text) {
  TimerfdInfo info;
  info.clock_id = parse_number<int>(field(text, "clockid"), "fdinfo clockid");
  info.ticks = parse_number<uint64_t>(field(text, "ticks"), "fdinfo ticks");
  info.settime_flags = parse_number<uint32_t>(field(text, "settime flags"), "fdinfo settime flags", 8);
  parse_time(field(text, "it_value"), "it_value", info.value_seconds, info.value_nanoseconds);
  parse_time(field(text, "it_interval"), "it_interval", info.interval_seconds, info.interval_nanoseconds);
  return info;
}

std::vector<EpollTarget> parse_epoll_targets(std::string_view text) {
  std::vector<EpollTarget> targets;
  while (!text.empty()) {
    std::string_view line = take_until(text, '\n');
    if (line.starts_with("tfd:")) targets.push_back(parse_epoll_target(line));
  }
  return targets;
}

}  // namespace godwit::kernel
