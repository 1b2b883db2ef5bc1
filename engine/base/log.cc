#include "engine/base/log.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <memory>
#include <mutex>

#include "engine/base/fd.h"

namespace godwit::log {
namespace {

using Clock = std::chrono::steady_clock;

// Writes lines straight to a descriptor: a command may be killed at any moment, and its last line must be
// there.
class FdSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  FdSink(int fd, bool with_time) : fd_(fd), with_time_(with_time) {}
  std::string prefix;

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    std::string line;
    if (with_time_) {
      line = fmt::format("({:.6f}) ", std::chrono::duration<double>(Clock::now() - start_).count());
    }
    if (message.level >= spdlog::level::err) {
      line += "Error: ";
    } else if (message.level == spdlog::level::warn) {
      line += "Warn: ";
    }
    line += prefix;
    line.append(message.payload.data(), message.payload.size());
    line += '\n';
    try {
      write_all(fd_, std::as_bytes(std::span(line)), "log");
    } catch (const std::exception&) {  // a full disk must not end the command that reports it
    }
  }
  void flush_() override {}

  int fd_;
  bool with_time_;
  Clock::time_point start_ = Clock::now();
};

// The one process-wide object here: a log is where a process's threads meet.
struct Log {
  std::shared_ptr<FdSink> sink = std::make_shared<FdSink>(2, false);
  std::shared_ptr<spdlog::logger> logger = std::make_shared<spdlog::logger>("godwit", sink);
};

Log& the_log() {
  static Log log;
  return log;
}

spdlog::level::level_enum spdlog_level(Level level) {
  switch (level) {
    case Level::kNothing:
      return spdlog::level::off;
    case Level::kError:
      return spdlog::level::err;
    case Level::kWarning:
      return spdlog::level::warn;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kDebug:
      break;
  }
  return spdlog::level::debug;
}

}  // namespace

void open(int fd, Level level) {
  auto prefix = the_log().sink->prefix;
  auto sink = std::make_shared<FdSink>(fd, level >= Level::kInfo);
  sink->prefix = prefix;
  the_log().sink = sink;
  the_log().logger = std::make_shared<spdlog::logger>("godwit", sink);
  the_log().logger->set_level(spdlog_level(level));
}

void set_prefix(std::string prefix) {
  the_log().sink->prefix = std::move(prefix);
}

bool enabled(Level level) {
  return the_log().logger->should_log(spdlog_level(level));
}

void write(Level level, const std::string& text) {
  the_log().logger->log(spdlog_level(level), "{}", text);
}

}  // namespace godwit::log
