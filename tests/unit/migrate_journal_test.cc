#include "migrate/journal.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <functional>

#include "engine/base/error.h"
#include "engine/kernel/proc_task.h"
#include "migrate/move_directory.h"
#include "migrate/task_identity.h"
#include "tests/support/temporary_directory.h"

namespace godwit::migrate {
namespace {

using std::chrono::milliseconds;

Fd directory_of(const std::string& path) {
  return open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
}

TEST_CASE("a journal keeps its records in order") {
  test::TemporaryDirectory directory;
  Fd fd = directory_of(directory.path());
  CHECK(read_journal(fd.get()).empty());
  {
    Journal journal = Journal::open(fd.get());
    journal.append(state::kPrecopy, "1");
    journal.append(state::kCommitted, "42:1000 43:1001");
  }
  Journal::open(fd.get()).append(state::kResumed);
  auto records = read_journal(fd.get());
  REQUIRE(records.size() == 3);
  CHECK(records[0].state == "precopy");
  CHECK(records[0].detail == "1");
  CHECK(records[0].time > 1.6e9);
  CHECK(records[2].state == "resumed");
  CHECK(find_state(records, state::kCommitted)->detail == "42:1000 43:1001");
  CHECK(find_state(records, state::kAborted) == nullptr);
}

TEST_CASE("a line that a crash cut off was not written, and does not spoil the next") {
  test::TemporaryDirectory directory;
  Fd fd = directory_of(directory.path());
  std::ofstream(directory / "journal") << "1700000000.000001 precopy 1\n1700000001.0 comm";
  CHECK(read_journal(fd.get()).size() == 1);
  Journal::open(fd.get()).append(state::kAborted, "two\nlines");
  auto records = read_journal(fd.get());
  REQUIRE(records.size() == 2);
  CHECK(records[1].state == "aborted");
  CHECK(records[1].detail == "two lines");
}

TEST_CASE("a journal of nonsense is refused") {
  CHECK_THROWS_AS(parse_journal("yesterday precopy\n"), FormatError);
  CHECK_THROWS_AS(parse_journal("1700000000.5 \n"), FormatError);
}

TEST_CASE("move ids are safe as directory names") {
  CHECK(is_move_id(new_move_id()));
  CHECK(new_move_id() != new_move_id());
  for (const char* wrong : {"", "..", "a/b", "A", "-a", ".", "a b", "a\n"}) CHECK_FALSE(is_move_id(wrong));
  CHECK_FALSE(is_move_id(std::string(65, 'a')));
}

TEST_CASE("task identities survive as text") {
  std::vector<TaskIdentity> tasks = {{42, 1000}, {43, 123456789012345}};
  CHECK(parse_identities(to_text(tasks)) == tasks);
  CHECK(parse_identities("").empty());
  CHECK_THROWS_AS(parse_identities("42"), FormatError);
}

// The settling of a move whose worker is dead, by what its journal says.
pb::verdict settle_after(const std::function<void(Journal&)>& write) {
  test::TemporaryDirectory directory;
  {
    auto move = MoveDirectory::create(directory.path(), "m1", "fingerprint");
    Journal journal = Journal::open(move.fd());
    write(journal);
  }
  auto move = MoveDirectory::open_if_exists(directory.path(), "m1");
  auto verdict = settle(*move, milliseconds{0});
  // What was settled once stays so.
  CHECK(settle(*move, milliseconds{0}).outcome() == verdict.outcome());
  return verdict;
}

std::string myself() {
  return to_text({{::getpid(), kernel::read_task_stat(::getpid(), ::getpid()).start_time}});
}

TEST_CASE("a move without a worker is settled by its journal and by who is alive") {
  CHECK(settle_after([](Journal&) {}).outcome() == pb::verdict::ABORTED);
  CHECK(settle_after([](Journal& j) { j.append(state::kRestoring); }).outcome() == pb::verdict::ABORTED);
  CHECK(settle_after([](Journal& j) { j.append(state::kCommitted, myself()); }).outcome() ==
        pb::verdict::RESUMED);
  // The pid is somebody else's by now.
  auto replaced = [](Journal& j) { j.append(state::kCommitted, fmt::format("{}:1", ::getpid())); };
  CHECK(settle_after(replaced).outcome() == pb::verdict::ABORTED);
  auto resumed = [](Journal& j) {
    j.append(state::kCommitted, "1:1");
    j.append(state::kResumed);
  };
  CHECK(settle_after(resumed).outcome() == pb::verdict::RESUMED);
}

TEST_CASE("a move in progress is not settled") {
  test::TemporaryDirectory directory;
  auto move = MoveDirectory::create(directory.path(), "m1", "fingerprint");
  REQUIRE(move.lock(milliseconds{0}));
  auto other = MoveDirectory::open_if_exists(directory.path(), "m1");
  CHECK(settle(*other, milliseconds{10}).outcome() == pb::verdict::UNDECIDED);
  CHECK(read_journal(move.fd()).empty());
  CHECK(other->peer_fingerprint() == "fingerprint");
}

TEST_CASE("an id is used once") {
  test::TemporaryDirectory directory;
  auto move = MoveDirectory::create(directory.path(), "m1", "a");
  CHECK_THROWS_AS(MoveDirectory::create(directory.path(), "m1", "b"), Error);
  CHECK_THROWS_AS(MoveDirectory::create(directory.path(), "../m2", "b"), FormatError);
  CHECK_THROWS_AS(MoveDirectory::open_if_exists(directory.path(), "../m1"), UsageError);
  CHECK_FALSE(MoveDirectory::open_if_exists(directory.path(), "m3"));
}

TEST_CASE("rounds link to their parents") {
  test::TemporaryDirectory directory;
  auto move = MoveDirectory::create(directory.path(), "m1", "a");
  move.make_round(1, 0);
  std::string final_path = move.make_round(0, 1);
  CHECK(read_link(AT_FDCWD, final_path + "/parent") == "../round-1");
  CHECK_FALSE(read_link_if_exists(AT_FDCWD, move.round_path(1) + "/parent"));
  CHECK_THROWS_AS(move.make_round(1, 0), SystemError);
  move.remove_images();
  CHECK_FALSE(read_link_if_exists(AT_FDCWD, final_path + "/parent"));
}

}  // namespace
}  // namespace godwit::migrate
