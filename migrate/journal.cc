#include "migrate/journal.h"

#include <fcntl.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/kernel/text_fields.h"

namespace godwit::migrate {
namespace {

constexpr const char* kFileName = "journal";
constexpr size_t kMaxJournalBytes = 1 << 20;

void fsync_or_throw(int fd, const char* what) {
  check(::fsync(fd), "fsync({})", what);
}

// "SECONDS.MICROSECONDS"
double parse_time(std::string_view text) {
  std::string_view seconds = kernel::take_until(text, '.');
  return static_cast<double>(kernel::parse_number<int64_t>(seconds, "journal: time")) +
         static_cast<double>(kernel::parse_number<uint32_t>(text, "journal: time")) / 1e6;
}

}  // namespace

Journal Journal::open(int directory) {
  Fd fd = open_at(directory, kFileName, O_RDWR | O_CREAT, 0600);
  std::string text = read_file(directory, kFileName, kMaxJournalBytes);
  // What a crash left of a line must not become the front of the next one.
  size_t end = text.rfind('\n') + 1;
  check(::ftruncate(fd.get(), static_cast<off_t>(end)), "ftruncate(journal)");
  fsync_or_throw(directory, "the journal's directory");
  return Journal(std::move(fd), static_cast<off_t>(end));
}

void Journal::append(std::string_view entered, std::string_view detail) {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  std::string one_line(detail);
  std::ranges::replace(one_line, '\n', ' ');
  std::string line = fmt::format("{}.{:06} {}{}{}\n", now.tv_sec, now.tv_nsec / 1000, entered,
                                 one_line.empty() ? "" : " ", one_line);
  pwrite_all(fd_.get(), std::as_bytes(std::span(line)), end_, "journal");
  fsync_or_throw(fd_.get(), "journal");
  end_ += static_cast<off_t>(line.size());
}

std::vector<JournalRecord> parse_journal(std::string_view text) {
  std::vector<JournalRecord> records;
  while (text.find('\n') != std::string_view::npos) {
    std::string_view line = kernel::take_until(text, '\n');
    JournalRecord record;
    record.time = parse_time(kernel::take_until(line, ' '));
    record.state = kernel::take_until(line, ' ');
    record.detail = line;
    if (record.state.empty()) throw FormatError("journal: record {} has no state", records.size() + 1);
    records.push_back(std::move(record));
  }
  return records;
}

std::vector<JournalRecord> read_journal(int directory) {
  auto text = read_file_if_exists(directory, kFileName, kMaxJournalBytes);
  return text ? parse_journal(*text) : std::vector<JournalRecord>();
}

const JournalRecord* find_state(const std::vector<JournalRecord>& records, std::string_view wanted) {
  auto found = std::find_if(records.rbegin(), records.rend(),
                            [&](const JournalRecord& record) { return record.state == wanted; });
  return found == records.rend() ? nullptr : &*found;
}

bool is_move_id(std::string_view text) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyz0123456789-";
  return !text.empty() && text.size() <= 64 && text.front() != '-' &&
         text.find_first_not_of(kAllowed) == std::string_view::npos;
}

std::string new_move_id() {
  uint32_t random = 0;
  if (::getrandom(&random, sizeof random, 0) != sizeof random) throw SystemError(errno, "getrandom");
  time_t now = ::time(nullptr);
  tm parts{};
  ::gmtime_r(&now, &parts);
  return fmt::format("{:04}{:02}{:02}-{:02}{:02}{:02}-{:08x}", parts.tm_year + 1900, parts.tm_mon + 1,
                     parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, random);
}

}  // namespace godwit::migrate
