#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

#include "engine/base/fd.h"

// Programs that a benchmark starts. posix_spawn, not fork: a fork would write-protect the memory that the raw
// limits work on.
namespace godwit::bench {

// The number that a passed descriptor has in the program.
inline constexpr int kPassedFd = 3;

// A program in a session of its own, with nothing but /dev/null, its output, and one descriptor if it was
// passed. Killed at the end of the scope unless it was waited for.
class Program {
 public:
  // Standard output and error go to `output`, `passed` to kPassedFd. Throws SystemError.
  Program(std::vector<std::string> words, std::string output, int passed = -1);
  Program(Program&& other) noexcept;
  Program& operator=(Program&&) = delete;
  ~Program();

  pid_t pid() const { return pid_; }
  // Waits for its end and throws Error with its words unless it ended with 0.
  void succeed();
  // Gives it away: the caller ends and reaps it.
  pid_t release() { return std::exchange(pid_, 0); }
  // What it has written so far.
  std::string output() const;

 private:
  std::vector<std::string> words_;
  std::string output_;
  pid_t pid_ = 0;
};

// Runs the build's criu to its end, which must be success; returns milliseconds from exec to exit.
double run_criu(std::vector<std::string> words, const std::string& output);
Program start_criu(std::vector<std::string> words, const std::string& output, int passed = -1);

// SIGKILL, and waits for the end of a process that is a child, or was left to us as the reaper.
void end_child(pid_t pid);

// Reaps children until there are none. Whoever calls it has made sure that all end.
void reap_all();

// Waits for the byte that a program writes to its --status-fd. Throws Error when it ends without.
class ReadyPipe {
 public:
  ReadyPipe() : pipe_(Pipe::create()) {}
  int write_end() const { return pipe_.write_end.get(); }
  // Call it once the program was started.
  void wait();

 private:
  Pipe pipe_;
};

// A port of 127.0.0.1 that nobody listens on now.
uint16_t free_port();

}  // namespace godwit::bench
