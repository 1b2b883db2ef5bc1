#include "migrate/move_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <thread>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/images/image_directory.h"
#include "migrate/task_identity.h"

namespace godwit::migrate {
namespace {

using std::chrono::milliseconds;

constexpr const char* kPeerFile = "peer";
constexpr const char* kLockFile = "lock";
constexpr milliseconds kLockPause{20};
// Within it a killed task begins to exit.
constexpr milliseconds kDeathPatience{500};

pb::verdict make_verdict(pb::verdict::state outcome, std::string reason) {
  pb::verdict verdict;
  verdict.set_outcome(outcome);
  if (!reason.empty()) verdict.set_reason(std::move(reason));
  return verdict;
}

// What the journal alone says.
pb::verdict written_verdict(const std::vector<JournalRecord>& records) {
  if (find_state(records, state::kResumed)) return make_verdict(pb::verdict::RESUMED, "");
  if (auto* record = find_state(records, state::kAborted))
    return make_verdict(pb::verdict::ABORTED, record->detail);
  return make_verdict(pb::verdict::UNDECIDED, "");
}

// A restore is released as a whole or not at all, so one task that is alive means that all were let go;
// unless it was killed this instant.
bool stay_alive(const std::vector<TaskIdentity>& tasks) {
  auto deadline = std::chrono::steady_clock::now() + kDeathPatience;
  while (std::ranges::any_of(tasks, is_alive)) {
    if (std::chrono::steady_clock::now() >= deadline) return true;
    std::this_thread::sleep_for(kLockPause);
  }
  return false;
}

}  // namespace

MoveDirectory MoveDirectory::create(const std::string& work_dir, const std::string& id,
                                    const std::string& peer_fingerprint) {
  if (!is_move_id(id)) throw FormatError("not the id of a move: '{}'", id);
  std::string path = work_dir + "/" + id;
  if (::mkdir(path.c_str(), 0700) < 0) {
    if (errno == EEXIST) throw Error("there is a move {} already", id);
    throw SystemError(errno, "mkdir({})", path);
  }
  MoveDirectory move(path, id, open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY));
  Fd peer = open_at(move.fd(), kPeerFile, O_WRONLY | O_CREAT | O_EXCL, 0600);
  write_all(peer.get(), std::as_bytes(std::span(peer_fingerprint)), kPeerFile);
  check(::fsync(peer.get()), "fsync({})", path);
  return move;
}

std::optional<MoveDirectory> MoveDirectory::open_if_exists(const std::string& work_dir,
                                                           const std::string& id) {
  if (!is_move_id(id)) throw UsageError("not the id of a move: '{}'", id);
  std::string path = work_dir + "/" + id;
  auto fd = godwit::open_if_exists(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!fd) return std::nullopt;
  return MoveDirectory(path, id, std::move(*fd));
}

std::string MoveDirectory::peer_fingerprint() const {
  return read_file_if_exists(fd_.get(), kPeerFile, 1024).value_or("");
}

bool MoveDirectory::lock(milliseconds patience) {
  if (!lock_) lock_ = open_at(fd_.get(), kLockFile, O_RDWR | O_CREAT, 0600);
  auto deadline = std::chrono::steady_clock::now() + patience;
  while (::flock(lock_.get(), LOCK_EX | LOCK_NB) < 0) {
    if (errno != EWOULDBLOCK) throw SystemError(errno, "flock({}/{})", path_, kLockFile);
    if (std::chrono::steady_clock::now() >= deadline) {
      lock_.reset();
      return false;
    }
    std::this_thread::sleep_for(kLockPause);
  }
  return true;
}

std::string MoveDirectory::round_path(uint32_t round) const {
  return round == 0 ? path_ + "/final" : fmt::format("{}/round-{}", path_, round);
}

std::string MoveDirectory::make_round(uint32_t round, uint32_t parent) const {
  std::string path = round_path(round);
  if (::mkdir(path.c_str(), 0700) < 0) throw SystemError(errno, "mkdir({})", path);
  auto images = images::ImageDirectory::open(path);
  images.start_dump(parent == 0 ? std::nullopt : std::optional(fmt::format("../round-{}", parent)));
  return path;
}

void MoveDirectory::remove_images() const noexcept {
  try {
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      std::error_code code;
      if (entry.is_directory()) std::filesystem::remove_all(entry.path(), code);
      if (code) log::warning("cannot remove {}: {}", entry.path().string(), code.message());
    }
  } catch (const std::exception& error) {
    log::warning("cannot remove the images in {}: {}", path_, error.what());
  }
}

std::vector<std::string> moves_in(const std::string& work_dir) {
  std::vector<std::string> ids;
  for (const auto& entry : std::filesystem::directory_iterator(work_dir)) {
    std::string name = entry.path().filename();
    if (entry.is_directory() && is_move_id(name)) ids.push_back(std::move(name));
  }
  return ids;
}

pb::verdict settle(MoveDirectory& move, milliseconds patience) {
  auto verdict = written_verdict(read_journal(move.fd()));
  if (verdict.outcome() != pb::verdict::UNDECIDED) return verdict;
  if (!move.lock(patience)) return verdict;
  auto records = read_journal(move.fd());
  verdict = written_verdict(records);
  if (verdict.outcome() != pb::verdict::UNDECIDED) return verdict;
  Journal journal = Journal::open(move.fd());
  if (auto* committed = find_state(records, state::kCommitted)) {
    if (stay_alive(parse_identities(committed->detail))) {
      journal.append(state::kResumed, "found alive");
      return make_verdict(pb::verdict::RESUMED, "");
    }
  }
  std::string reason = "the agent's worker ended before the tasks ran";
  journal.append(state::kAborted, reason);
  move.remove_images();
  return make_verdict(pb::verdict::ABORTED, reason);
}

}  // namespace godwit::migrate
