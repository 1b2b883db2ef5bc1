#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace godwit::test {

// What came of a program that ran to its end.
struct Outcome {
  int status = -1;     // exit status; 128 + signal when a signal ended it
  std::string output;  // standard output and error together
};

// Runs a program to its end. It is killed after `limit_s` seconds, a limit that only catches hangs.
Outcome run(const std::vector<std::string>& words, int limit_s = 120);
// The same for the build's criu.
Outcome criu(std::vector<std::string> words, int limit_s = 120);

// Starts a program in a session of its own, with /dev/null as its standard files and no other descriptor;
// returns its pid. Who starts it ends and reaps it.
pid_t start(const std::vector<std::string>& words);

// Makes the calling process the parent of what its children leave behind, as an init would be. Call it once.
void become_reaper();
// Reaps whatever has ended.
void reap();
// Whether a process exists and is not a zombie.
bool is_running(pid_t pid);
// SIGKILL to a process and everything below it; waits until all are gone.
void end_tree(pid_t root);
// The process and all its descendants, parents first; empty when it is gone.
std::vector<pid_t> tree_of(pid_t root);

}  // namespace godwit::test
