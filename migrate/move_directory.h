#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "engine/base/fd.h"
#include "migrate/journal.h"
#include "proto/control/control.pb.h"

namespace godwit::migrate {

// What the agent keeps of one move: WORK_DIR/ID with the journal, the peer's fingerprint, the directories of
// the rounds, and a lock. Whoever brings the move forward holds the lock, and so does everything that decides
// its outcome when that dies (the watcher of a restore): once it is free, the outcome is settled.
class MoveDirectory {
 public:
  // Makes the directory of a new move. Throws Error when there is one of this id.
  static MoveDirectory create(const std::string& work_dir, const std::string& id,
                              const std::string& peer_fingerprint);
  // An existing one; nothing when there is none. Throws UsageError for an id that is none.
  static std::optional<MoveDirectory> open_if_exists(const std::string& work_dir, const std::string& id);

  const std::string& path() const { return path_; }
  const std::string& id() const { return id_; }
  int fd() const { return fd_.get(); }
  // sha256 of the certificate whose owner began the move.
  std::string peer_fingerprint() const;

  // Takes the lock, waiting at most this long; false when somebody has it. It stays with this object and
  // processes forked from here on.
  bool lock(std::chrono::milliseconds patience);

  // Makes the directory of a round, 0 for the final dump, with a link to its parent unless that is 0.
  // Returns its path.
  std::string make_round(uint32_t round, uint32_t parent) const;
  std::string round_path(uint32_t round) const;

  // Removes the rounds' directories; never throws, what stays is logged.
  void remove_images() const noexcept;

 private:
  MoveDirectory(std::string path, std::string id, Fd fd)
      : path_(std::move(path)), id_(std::move(id)), fd_(std::move(fd)) {}

  std::string path_;
  std::string id_;
  Fd fd_;
  Fd lock_;
};

// The ids of all moves in this work directory.
std::vector<std::string> moves_in(const std::string& work_dir);

// What became of a move; settles it in the journal when nobody is left to do so (see MoveDirectory): a move
// that was committed and whose tasks are alive is resumed, everything else is aborted. `patience` bounds the
// waiting for the lock; UNDECIDED when it was not enough.
pb::verdict settle(MoveDirectory& move, std::chrono::milliseconds patience);

}  // namespace godwit::migrate
