// The workload outlives us: a program that is in the middle of a session when its tracer is killed runs on as
// if nothing had happened.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <cstdlib>
#include <random>

#include "engine/base/fd.h"
#include "engine/kernel/proc_maps.h"
#include "engine/kernel/proc_task.h"
#include "engine/tracee/freeze.h"
#include "engine/tracee/remote_caller.h"
#include "tests/guests/self_cure_board.h"
#include "tests/support/child.h"
#include "tests/support/skip.h"

using namespace godwit;
using namespace godwit::tracee;
using test::Child;
using test::eventually;

namespace {

constexpr int kThreads = SelfCureBoard::kThreads;

class Guest {
 public:
  Guest() : file_(::memfd_create("board", 0)) {
    check(::ftruncate(file_.get(), sizeof(SelfCureBoard)), "ftruncate");
    board_ = static_cast<SelfCureBoard*>(
        ::mmap(nullptr, sizeof(SelfCureBoard), PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0));
    std::string path = fmt::format("/proc/{}/fd/{}", ::getpid(), file_.get());
    process_.emplace([path] {
      ::execl(GODWIT_BUILD_DIR "/guests/self_cure", "self_cure", path.c_str(), nullptr);
      ::_exit(127);
    });
  }
  ~Guest() {
    process_.reset();
    ::munmap(board_, sizeof(SelfCureBoard));
  }

  pid_t pid() const { return process_->pid(); }
  const SelfCureBoard& board() const { return *board_; }
  bool alive() { return !process_->has_ended(); }
  // Whether every thread makes another round.
  bool all_advance() {
    long before[kThreads];
    for (int i = 0; i < kThreads; ++i) before[i] = board_->rounds[i];
    return eventually([&] {
             for (int i = 0; i < kThreads; ++i) {
               if (board_->rounds[i] <= before[i]) return !alive();
             }
             return true;
           }) &&
           alive();
  }
  std::string maps() const { return read_file(AT_FDCWD, fmt::format("/proc/{}/maps", pid())); }
  int scratch_count() const {
    RemoteMemory memory(pid());
    int count = 0;
    for (const auto& entry : kernel::parse_maps(maps())) count += is_scratch(memory, entry);
    return count;
  }

 private:
  Fd file_;
  SelfCureBoard* board_;
  std::optional<Child> process_;
};

Batch batch_for(int calls) {
  Batch batch;
  // The filter of one thread kills for what it does not allow, so nothing else is called.
  for (int i = 0; i < calls; ++i) batch.call(i % 2 ? SYS_getppid : SYS_gettid, {}, OnFailure::kContinue);
  return batch;
}

// Freezes the guest, runs batches in all of its threads, cures it and lets it go.
void session(pid_t pid, int rounds, int calls) {
  auto tree = freeze_tree(pid, {});
  auto& threads = tree.root().threads;
  auto caller = RemoteCaller::for_running(threads);
  Batch batch = batch_for(calls);
  for (int round = 0; round < rounds; ++round) {
    for (Tracee& thread : threads) caller.start(thread, batch);
    for (Tracee& thread : threads) caller.finish(thread);
  }
  caller.cure();
}

void check_untouched(Guest& guest) {
  const SelfCureBoard& board = guest.board();
  CHECK_MESSAGE(board.failures == 0, "thread " << board.first_failure / 1000 << ", line "
                                               << board.first_failure % 1000 << " of self_cure.cc");
  auto blocked = kernel::read_task_status(guest.pid(), board.tids[SelfCureBoard::kBlocked]).blocked;
  auto strict = kernel::read_task_status(guest.pid(), board.tids[SelfCureBoard::kNearlyStrict]).blocked;
  auto main = kernel::read_task_status(guest.pid(), guest.pid()).blocked;
  CHECK(blocked == 0xfffffffffffbfeff);
  CHECK(strict == 0xfffffffffffbfeff);
  CHECK(main == 0);
}

int number_of_kills() {
  const char* full = std::getenv("GODWIT_FULL");
  return full != nullptr && full[0] == '1' ? 300 : 30;
}

}  // namespace

TEST_CASE("sessions leave a busy program as it was") {
  Guest guest;
  REQUIRE(guest.all_advance());
  std::string before = guest.maps();
  for (int i = 0; i < 20; ++i) {
    session(guest.pid(), 5, 100);
    ::syscall(SYS_tgkill, guest.pid(), guest.board().tids[SelfCureBoard::kFiltered].load(), SIGUSR1);
  }
  CHECK(guest.all_advance());
  CHECK(guest.maps() == before);
  check_untouched(guest);
}

TEST_CASE("a program outlives tracers that are killed at random moments") {
  Guest guest;
  REQUIRE(guest.all_advance());
  std::string before = guest.maps();
  std::mt19937 random(20'251'121);
  auto pause = [&] { ::usleep(static_cast<unsigned>(random() % 6000)); };
  int kills = number_of_kills(), leftovers = 0;
  long signals = 0;
  for (int i = 0; i < kills; ++i) {
    Child tracer([&] {
      std::mt19937 own(static_cast<unsigned>(i));
      for (;;) session(guest.pid(), 1 + static_cast<int>(own() % 4), 1 + static_cast<int>(own() % 500));
    });
    // Also signals, at some moment of it, for the thread that does without rt_sigprocmask.
    pause();
    ::syscall(SYS_tgkill, guest.pid(), guest.board().tids[SelfCureBoard::kFiltered].load(), SIGUSR1);
    ++signals;
    pause();
    ::kill(tracer.pid(), SIGKILL);
    REQUIRE(WTERMSIG(tracer.wait()) == SIGKILL);
    REQUIRE_MESSAGE(guest.all_advance(), "after kill " << i + 1);
    leftovers += guest.scratch_count() > 0;
    // The next signal must not find this one pending: the two would be one.
    REQUIRE(eventually([&] { return guest.board().handled == signals; }));
  }
  check_untouched(guest);
  MESSAGE(kills << " tracers killed, " << leftovers << " of them left a scratch behind; " << signals
                << " signals sent meanwhile, " << guest.board().handled.load()
                << " handled; all 8 threads run, calls interrupted or values changed: "
                << guest.board().failures.load());
  session(guest.pid(), 1, 10);
  CHECK(guest.scratch_count() == 0);
  CHECK(guest.maps() == before);
  CHECK(guest.all_advance());
}
