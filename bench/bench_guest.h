#pragma once

#include <sys/types.h>

#include <string>
#include <utility>

#include "bench/guest_board.h"
#include "bench/measure.h"
#include "bench/program.h"
#include "bench/scratch_directory.h"

namespace godwit::bench {

// The guest of a benchmark, with a directory for its images. The calling process
// becomes the reaper of what is restored.
class BenchGuest : public ScratchDirectory {
 public:
  // Starts it and waits until its memory is filled.
  explicit BenchGuest(const Settings& settings);
  BenchGuest(const BenchGuest&) = delete;
  BenchGuest& operator=(const BenchGuest&) = delete;
  ~BenchGuest();

  // Starts it again, after it was killed. Its pid changes.
  void start();
  // The guest as this process sees it; killed and reaped by end(), which may be called at any time.
  pid_t pid() const { return pid_; }
  void end();
  // Reaps it, after a dump has killed it.
  void reap();
  // Gives the process away, as when it moves elsewhere: the caller ends and reaps it.
  pid_t release() { return std::exchange(pid_, 0); }
  // It was restored, and is to be ended with the others again.
  void adopt() { pid_ = last_pid_; }

  Board& board() { return *board_; }
  // Gives the order and waits until it is done.
  void obey(Order order);
  // Gives it to a guest that looks at it later.
  void leave_order(Order order);
  // False when the guest has died, or after two minutes: a limit that only catches hangs.
  bool wait_until_done();

 private:
  Settings settings_;
  Board* board_ = nullptr;
  size_t board_size_;
  pid_t pid_ = 0, last_pid_ = 0;
};

}  // namespace godwit::bench
