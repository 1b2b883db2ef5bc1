// The workload outlives us: criu dump and criu restore are killed at random moments and at every fault point.
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "engine/base/fd.h"
#include "engine/kernel/cgroup.h"
#include "engine/kernel/proc_maps.h"
#include "engine/kernel/proc_task.h"
#include "engine/tracee/scratch_place.h"
#include "tests/support/child.h"
#include "tests/support/guest.h"
#include "tests/support/program.h"
#include "tests/support/skip.h"

namespace godwit::test {
namespace {

using Clock = std::chrono::steady_clock;

int number_of_kills() {
  const char* full = std::getenv("GODWIT_FULL");
  return full != nullptr && full[0] == '1' ? 300 : 100;
}

std::string maps_of(pid_t pid) {
  return read_file(AT_FDCWD, "/proc/" + std::to_string(pid) + "/maps");
}

// Areas of scratch in a process; the parts of one lie next to each other.
int scratch_areas(pid_t pid) {
  tracee::RemoteMemory memory(pid);
  int count = 0;
  uint64_t end = 0;
  for (const auto& map : kernel::parse_maps(maps_of(pid))) {
    if (!tracee::is_scratch(memory, map)) continue;
    if (map.start != end) ++count;
    end = map.end;
  }
  return count;
}

std::vector<std::string> threads_of(pid_t pid) {
  std::vector<std::string> threads;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
    auto tid = static_cast<pid_t>(std::stoi(entry.path().filename()));
    auto status = kernel::read_task_status(pid, tid);
    threads.push_back(fmt::format("{} blocked {:x} ignored {:x} caught {:x} tracer {}", tid, status.blocked,
                                  status.ignored, status.caught, status.tracer_pid));
  }
  std::sort(threads.begin(), threads.end());
  return threads;
}

// A criu that a test kills.
class Victim {
 public:
  explicit Victim(std::vector<std::string> words) {
    words.insert(words.begin(), GODWIT_BUILD_DIR "/criu");
    pid_ = start(words);
  }
  Victim(const Victim&) = delete;
  Victim& operator=(const Victim&) = delete;
  ~Victim() {
    if (!ended_) wait();
  }
  pid_t pid() const { return pid_; }
  // True when it was still there to be killed.
  bool kill() {
    ::kill(pid_, SIGKILL);
    return wait() == 128 + SIGKILL;
  }
  int wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    ended_ = true;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_;
  bool ended_ = false;
};

// The middle of three complete runs.
std::chrono::microseconds usual_duration(const std::function<void()>& run) {
  std::vector<Clock::duration> durations;
  for (int i = 0; i < 3; ++i) {
    auto start = Clock::now();
    run();
    durations.push_back(Clock::now() - start);
  }
  std::sort(durations.begin(), durations.end());
  return std::chrono::duration_cast<std::chrono::microseconds>(durations[1]);
}

// Moments from the start of a program to a little after its usual end.
class Moments {
 public:
  explicit Moments(std::chrono::microseconds duration) : distance_(0, duration.count() * 6 / 5) {}
  void wait() { ::usleep(static_cast<useconds_t>(distance_(random_))); }

 private:
  std::mt19937 random_{20'261'121};
  std::uniform_int_distribution<int64_t> distance_;
};

std::vector<std::string> dump_words(Guest& guest, bool leave_running) {
  std::vector<std::string> words{"dump", "-t",      std::to_string(guest.pid()), "-D", guest.directory(),
                                 "-o",   "dump.log"};
  if (leave_running) words.push_back("-R");
  return words;
}

bool has_inventory(Guest& guest) {
  return std::filesystem::exists(guest.directory() + "/inventory.img");
}

void restore(Guest& guest) {
  std::ofstream(guest.path("report.restored")) << "restored\n";
  eventually([&] {
    reap();
    return ::kill(guest.pid(), 0) != 0;
  });
  guest.restore();
}

// One dump that is killed, and everything that must hold afterwards.
struct DumpTrial {
  Guest& guest;
  std::vector<std::string> threads;
  int killed = 0, leftovers = 0, restored = 0;

  void check(bool was_killed, bool leave_running, int number) {
    CAPTURE(number);
    killed += was_killed;
    // The dump may have come as far as to end the guest; then its images are complete.
    bool gone = eventually_gone(was_killed && !leave_running && has_inventory(guest));
    if (gone) {
      REQUIRE_FALSE(leave_running);
      REQUIRE(has_inventory(guest));
      restore(guest);
      ++restored;
    } else {
      REQUIRE((was_killed || leave_running));
    }
    REQUIRE_MESSAGE(guest.goes_on(1), guest.failures());
    REQUIRE(guest.failures() == "");
    REQUIRE(threads_of(guest.pid()) == threads);
    int areas = scratch_areas(guest.pid());
    // A killed dump leaves one, or two where signal frames for a filter needed more room; one that is killed
    // while it takes an older one away leaves both. They must not add up.
    REQUIRE(areas <= 3);
    leftovers += areas;
  }

  bool eventually_gone(bool may_take_a_moment) {
    if (may_take_a_moment) ::usleep(20'000);
    reap();
    return !is_running(guest.pid());
  }
};

void outlives_killed_dumps(const std::string& mode) {
  Guest guest("threads", {mode});
  std::string before = maps_of(guest.pid());
  DumpTrial trial{guest, threads_of(guest.pid())};
  REQUIRE(trial.threads.size() == 8);
  Moments moments(usual_duration([&] { REQUIRE(Victim(dump_words(guest, true)).wait() == 0); }));
  REQUIRE(guest.goes_on(1));
  for (int i = 0; i < number_of_kills(); ++i) {
    bool leave_running = i % 2 == 0;
    Victim victim(dump_words(guest, leave_running));
    moments.wait();
    trial.check(victim.kill(), leave_running, i);
  }
  MESSAGE(mode << ": " << trial.killed << " dumps killed, " << trial.leftovers << " left a scratch, "
               << trial.restored << " had ended the guest already");
  CHECK(trial.killed > 0);
  // The next complete dump takes away what is left, and does not dump it.
  REQUIRE(Victim(dump_words(guest, true)).wait() == 0);
  CHECK(scratch_areas(guest.pid()) == 0);
  CHECK(maps_of(guest.pid()) == before);
  guest.dump();
  restore(guest);
  CHECK(guest.goes_on(1));
  CHECK(guest.failures() == "");
  CHECK(scratch_areas(guest.pid()) == 0);
  CHECK(maps_of(guest.pid()) == before);
}

TEST_CASE("a busy program outlives dumps that are killed") {
  outlives_killed_dumps("busy");
}
TEST_CASE("a sleeping program outlives dumps that are killed") {
  outlives_killed_dumps("sleeping");
}
TEST_CASE("a program under a seccomp filter outlives dumps that are killed") {
  outlives_killed_dumps("filtered");
}
// A known limit (engine/tracee/README.md): for the microseconds of a batch our death leaves its remaining
// calls to the filter, and one that kills for them does.
TEST_CASE("a program under a filter that kills outlives dumps that are killed" * doctest::may_fail()) {
  outlives_killed_dumps("filtered-kill");
}

// Sets GODWIT_FAULT_POINT for the programs that are started meanwhile.
class AtFaultPoint {
 public:
  AtFaultPoint(const std::string& name, const std::string& action) {
    ::setenv("GODWIT_FAULT_POINT", (name + "=" + action).c_str(), 1);
  }
  AtFaultPoint(const AtFaultPoint&) = delete;
  AtFaultPoint& operator=(const AtFaultPoint&) = delete;
  ~AtFaultPoint() { ::unsetenv("GODWIT_FAULT_POINT"); }
};

// The names of the fault points in the sources of some folders.
std::vector<std::string> fault_points_in(const std::vector<std::string>& folders) {
  std::vector<std::string> names;
  for (const auto& folder : folders) {
    for (const auto& file : std::filesystem::directory_iterator(GODWIT_SOURCE_DIR "/" + folder)) {
      if (file.path().extension() != ".cc") continue;
      std::string text = read_file(AT_FDCWD, file.path().string());
      const std::string call = "fault_point(\"";
      for (size_t at = text.find(call); at != std::string::npos; at = text.find(call, at + 1)) {
        size_t begin = at + call.size();
        names.push_back(text.substr(begin, text.find('"', begin) - begin));
      }
    }
  }
  return names;
}

TEST_CASE("a dump that is killed or fails at any fault point leaves the program as it was and no inventory") {
  for (std::string mode : {"busy", "sleeping", "filtered-kill"}) {
    CAPTURE(mode);
    Guest guest("threads", {mode});
    DumpTrial trial{guest, threads_of(guest.pid())};
    auto points = fault_points_in({"engine/dump", "engine/images"});
    REQUIRE(points.size() >= 6);
    for (const auto& point : points) {
      CAPTURE(point);
      {
        AtFaultPoint fault(point, "kill");
        REQUIRE(Victim(dump_words(guest, false)).wait() == 128 + SIGKILL);
      }
      REQUIRE_FALSE(has_inventory(guest));
      trial.check(true, false, 0);
      AtFaultPoint fault(point, "fail");
      Outcome outcome = criu(dump_words(guest, false));
      CHECK(outcome.status == 1);
      CHECK(outcome.output.find(point) != std::string::npos);
      CHECK_FALSE(has_inventory(guest));
      REQUIRE(guest.goes_on(1));
      CHECK(guest.failures() == "");
      CHECK(threads_of(guest.pid()) == trial.threads);
      // A dump that ends by itself leaves nothing, neither its own nor what the killed one left.
      if (point != "dump-frozen") CHECK(scratch_areas(guest.pid()) == 0);
    }
  }
}

// What a killed restore has left.
enum class Remains { kNothing, kWhole, kPart };

Remains remains_of(const std::vector<pid_t>& tree) {
  reap();
  size_t there = 0;
  for (pid_t pid : tree) there += ::kill(pid, 0) == 0;
  return there == 0 ? Remains::kNothing : there == tree.size() ? Remains::kWhole : Remains::kPart;
}

// Processes other than the guest's that work for a restore of this directory: a criu or its watcher.
bool has_worker(const std::string& directory) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    std::ifstream file(entry.path() / "cmdline");
    std::stringstream text;
    text << file.rdbuf();
    if (text.str().find("restore") != std::string::npos && text.str().find(directory) != std::string::npos)
      return true;
  }
  return false;
}

bool has_cgroup_of(pid_t criu) {
  auto home = kernel::Cgroup::of_self_if_available();
  if (!home) return false;
  std::string name = fmt::format("godwit-restore-{}-", criu);
  for (const auto& entry : std::filesystem::directory_iterator(home->path())) {
    if (entry.path().filename().string().starts_with(name)) return true;
  }
  return false;
}

class RestoreTrial {
 public:
  RestoreTrial(const std::string& name, const std::vector<std::string>& arguments) : guest_(name, arguments) {
    std::ofstream(guest_.path("report.restored")) << "restored\n";
    tree_ = tree_of(guest_.pid());
    guest_.dump();
    clear();
  }
  Guest& guest() { return guest_; }
  std::vector<std::string> words() {
    return {"restore", "-D", guest_.directory(), "-d", "-o", "restore.log"};
  }
  // Waits until nothing of the restore works any more, and checks that what is there is nothing or the whole
  // tree; ends that again.
  Remains settle(pid_t criu) {
    REQUIRE(eventually([&] {
      reap();
      return !has_worker(guest_.directory());
    }));
    CHECK_FALSE(has_cgroup_of(criu));
    // A killed task is gone a little after its killer; until then it looks whole, but makes no rounds.
    unsigned long rounds = guest_.rounds();
    Remains remains = Remains::kPart;
    REQUIRE(eventually([&] {
      remains = remains_of(tree_);
      return remains == Remains::kNothing || (remains == Remains::kWhole && guest_.rounds() > rounds + 1);
    }));
    REQUIRE(guest_.failures() == "");
    clear();
    return remains;
  }
  void restores_completely() {
    Victim victim(words());
    REQUIRE(victim.wait() == 0);
    REQUIRE(settle(victim.pid()) == Remains::kWhole);
  }

 private:
  void clear() {
    end_tree(guest_.pid());
    eventually([&] { return remains_of(tree_) == Remains::kNothing; });
    // A tree that is killed one by one sees that: its last reports do not count.
    std::filesystem::resize_file(guest_.path("report"), 13);
  }
  Guest guest_;
  std::vector<pid_t> tree_;
};

void restores_all_or_nothing(const std::string& name, const std::vector<std::string>& arguments) {
  CAPTURE(name);
  RestoreTrial trial(name, arguments);
  Clock::duration usual{};
  for (int i = 0; i < 3; ++i) {
    auto start = Clock::now();
    Victim victim(trial.words());
    REQUIRE(victim.wait() == 0);
    usual = Clock::now() - start;
    REQUIRE(trial.settle(victim.pid()) == Remains::kWhole);
  }
  Moments moments(std::chrono::duration_cast<std::chrono::microseconds>(usual));
  int nothing = 0, whole = 0, killed = 0;
  for (int i = 0; i < number_of_kills(); ++i) {
    CAPTURE(i);
    Victim victim(trial.words());
    moments.wait();
    bool was_killed = victim.kill();
    killed += was_killed;
    Remains remains = trial.settle(victim.pid());
    ++(remains == Remains::kNothing ? nothing : whole);
    CHECK((was_killed || remains == Remains::kWhole));
  }
  MESSAGE(name << ": " << killed << " restores killed: " << nothing << " left nothing, " << whole
               << " of all the whole tree");
  CHECK(nothing > 0);
  trial.restores_completely();
}

TEST_CASE("a restore of threads that is killed leaves nothing or all") {
  restores_all_or_nothing("threads", {"sleeping"});
}
TEST_CASE("a restore of a tree that is killed leaves nothing or all") {
  restores_all_or_nothing("tree", {});
}

TEST_CASE("a restore that is killed or fails at any fault point leaves nothing, and the next one succeeds") {
  for (std::string name : {"threads", "tree"}) {
    CAPTURE(name);
    RestoreTrial trial(name, {"filtered"});
    auto points = fault_points_in({"engine/restore"});
    REQUIRE(points.size() >= 5);
    for (const auto& point : points) {
      CAPTURE(point);
      for (std::string action : {"kill", "fail"}) {
        CAPTURE(action);
        int status = 0;
        pid_t pid = 0;
        {
          AtFaultPoint fault(point, action);
          Victim victim(trial.words());
          pid = victim.pid();
          status = victim.wait();
        }
        CHECK(status != 0);
        CHECK(trial.settle(pid) == Remains::kNothing);
      }
    }
    trial.restores_completely();
  }
}

}  // namespace
}  // namespace godwit::test
