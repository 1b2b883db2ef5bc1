#include "migrate/display.h"

#include <fmt/format.h>
#include <unistd.h>

#include "engine/base/units.h"

namespace godwit::migrate {
namespace {

constexpr double kMiBytes = kMiB;

double mebibytes(double pages) {
  return pages * kPageSize / kMiBytes;
}

std::string milliseconds(double seconds) {
  return fmt::format("{:.1f} ms", seconds * 1e3);
}

}  // namespace

Display::Display(std::FILE* out) : out_(out), terminal_(::isatty(::fileno(out)) == 1) {}

Display::~Display() {
  if (transient_) std::fputs("\r\033[K", out_);
  std::fflush(out_);
}

void Display::line(const std::string& text) {
  if (transient_) std::fputs("\r\033[K", out_);
  transient_ = false;
  std::fputs((text + "\n").c_str(), out_);
  std::fflush(out_);
}

void Display::under_way(const std::string& what) {
  if (!terminal_) return;
  std::fputs(("\r\033[K" + what + " ...").c_str(), out_);
  std::fflush(out_);
  transient_ = true;
}

void Display::beginning(const MoveReport& report) {
  line(fmt::format("moving pid {} ({}): {} processes, {} threads, {:.1f} MiB, to {}, {}", report.pid,
                   report.name, report.processes, report.threads,
                   static_cast<double>(report.resident_bytes) / kMiBytes, report.destination, report.mode));
  line(fmt::format("move id    {}", report.id));
}

void Display::preflight(const MoveReport& report) {
  for (const auto& warning : report.warnings) line("warning    " + warning);
  for (const auto& finding : report.findings) line("in the way " + finding);
  if (!report.findings.empty()) return;
  line(fmt::format("preflight  ok; round trip {}, link {:.0f} MiB/s", milliseconds(report.round_trip),
                   report.link_rate / kMiBytes));
}

void Display::round(unsigned number, const MoveReport::Round& round) {
  if (!table_begun_) {
    line(fmt::format("{:>10} {:>10} {:>9} {:>9} {:>12} {:>9} {:>18}", "round", "pages", "MiB", "MiB/s",
                     "dirty MiB/s", "frozen", "expected downtime"));
  }
  table_begun_ = true;
  const auto& forecast = round.forecast;
  auto pages = static_cast<double>(round.facts.pages);
  line(fmt::format("{:>10} {:>10} {:>9.1f} {:>9.0f} {:>12} {:>9} {:>18}", number, round.facts.pages,
                   mebibytes(pages), mebibytes(pages) / round.facts.seconds,
                   forecast.dirty_rate ? fmt::format("{:.1f}", mebibytes(*forecast.dirty_rate)) : "-",
                   milliseconds(round.facts.frozen),
                   forecast.downtime ? milliseconds(*forecast.downtime) : "-"));
}

void Display::rounds_end(const std::string& why) {
  line("freezing   " + why);
}

void Display::step(const char* name, double seconds, const std::string& remark) {
  line(fmt::format("{:<10} {:>10}  {}", name, milliseconds(seconds), remark));
}

void Display::summary(const MoveReport& report) {
  line(fmt::format("{}: {:.2f} s in all, downtime {}, {:.1f} MiB on the wire", report.outcome, report.total,
                   milliseconds(report.downtime), static_cast<double>(report.bytes_on_wire) / kMiBytes));
}

}  // namespace godwit::migrate
