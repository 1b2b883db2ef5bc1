#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/fd.h"

namespace godwit::migrate {

// The states of a move, as both sides write them down before they act on them.
namespace state {
inline constexpr std::string_view kPreflight = "preflight";
inline constexpr std::string_view kPrecopy = "precopy";
inline constexpr std::string_view kFinal = "final";
inline constexpr std::string_view kRestoring = "restoring";
inline constexpr std::string_view kAsking = "asking";  // source only: the commit was asked for
inline constexpr std::string_view kCommitted = "committed";
inline constexpr std::string_view kResumed = "resumed";
inline constexpr std::string_view kPostcopy = "postcopy";
inline constexpr std::string_view kDone = "done";
inline constexpr std::string_view kAborted = "aborted";
inline constexpr std::string_view kRolledBack = "rolled-back";
}  // namespace state

struct JournalRecord {
  double time = 0;  // seconds since the epoch
  std::string state;
  std::string detail;
};

// The durable record of one move: a text file, a line for each state that was entered. A line that was cut
// off by a crash counts as not written.
class Journal {
 public:
  // Opens "journal" in this directory, making it if needed. Throws SystemError.
  static Journal open(int directory);

  // Appends a line and brings it to the disk. `detail` must be one line.
  void append(std::string_view entered, std::string_view detail = {});

 private:
  Journal(Fd fd, off_t end) : fd_(std::move(fd)), end_(end) {}
  Fd fd_;
  off_t end_ = 0;
};

// The complete lines of a journal's text. Throws FormatError for a line that no journal would hold.
std::vector<JournalRecord> parse_journal(std::string_view text);
// The records of "journal" in this directory; none if there is no such file.
std::vector<JournalRecord> read_journal(int directory);
// The last record of this state.
const JournalRecord* find_state(const std::vector<JournalRecord>& records, std::string_view wanted);

// Names of moves: 1 to 64 of a-z, 0-9 and '-', so that they are safe as directory names.
bool is_move_id(std::string_view text);
// A new one: time and random digits.
std::string new_move_id();

}  // namespace godwit::migrate
