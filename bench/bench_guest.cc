#include "bench/bench_guest.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "engine/base/error.h"
#include "engine/base/units.h"

namespace godwit::bench {

BenchGuest::BenchGuest(const Settings& settings)
    : ScratchDirectory(settings.directory),
      settings_(settings),
      board_size_(bench::board_size(settings.bytes / kPageSize)) {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  Fd file = open_at(AT_FDCWD, path("board"), O_RDWR | O_CREAT | O_EXCL, 0600);
  check(::fallocate(file.get(), 0, 0, static_cast<off_t>(board_size_)), "fallocate({})", path("board"));
  void* board = ::mmap(nullptr, board_size_, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (board == MAP_FAILED) throw SystemError(errno, "mmap({})", path("board"));
  board_ = static_cast<Board*>(board);
  start();
}

BenchGuest::~BenchGuest() {
  end();
  if (board_ != nullptr) ::munmap(board_, board_size_);
}

void BenchGuest::start() {
  ++board_->order_number;
  board_->order = Order::kNone;
  Program program({GODWIT_BUILD_DIR "/bench/guest", path("board"), std::to_string(settings_.bytes)},
                  path("guest.out"));
  pid_ = last_pid_ = program.release();
  if (!wait_until_done()) throw Error("the guest does not start");
}

void BenchGuest::end() {
  if (pid_ != 0) end_child(std::exchange(pid_, 0));
}

void BenchGuest::reap() {
  if (pid_ != 0) ::waitpid(std::exchange(pid_, 0), nullptr, __WALL);
}

void BenchGuest::leave_order(Order order) {
  board_->order = order;
  ++board_->order_number;
}

void BenchGuest::obey(Order order) {
  leave_order(order);
  if (!wait_until_done()) throw Error("the guest does not answer");
}

bool BenchGuest::wait_until_done() {
  auto start = Clock::now();
  while (board_->done != board_->order_number) {
    if (milliseconds_since(start) > 120'000) return false;
    siginfo_t info{};
    if (pid_ != 0 && ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
        info.si_pid == pid_) {
      return false;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace godwit::bench
