#include "tests/interop/stock.h"

#include <doctest/doctest.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "tests/support/child.h"

namespace godwit::test {
namespace {

// Parts of the lines in which guests tell what stock 3.17.1 loses at either end of a move: it does not write
// or not read what they are about.
constexpr std::array kLostByEither{
    "PR_CAP_AMBIENT",        // came with CRIU 4.1
    "PR_GET_NO_NEW_PRIVS",   // came with CRIU 3.19
    "PR_GET_THP_DISABLE",    // restore clears it
    "read(files.semaphore",  // eventfd comes back without EFD_SEMAPHORE
};
// Its restore stops what was stopped only after the rest runs: the guest sees the child running for a round.
constexpr std::string_view kLostByRestore = "WSTOPPED";

}  // namespace

std::string errors_in(const std::string& path) {
  std::ifstream log(path);
  std::string line, errors;
  while (std::getline(log, line)) {
    if (line.find("rror") != std::string::npos) errors += line + "\n";
  }
  return errors;
}

void run_well(const std::string& program, const std::vector<std::string>& words) {
  std::string directory;
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    if (words[i] == "-D") directory = words[i + 1];
  }
  std::string log = directory + "/" + words[0] + ".log";
  std::vector<std::string> all{program};
  all.insert(all.end(), words.begin(), words.end());
  all.insert(all.end(), {"-v4", "-o", log});
  Outcome outcome = run(all, 60);
  if (outcome.status == 0) return;
  throw std::runtime_error(program + " " + words[0] + " ended with " + std::to_string(outcome.status) + ": " +
                           outcome.output + errors_in(log));
}

void wait_until_gone(const std::vector<pid_t>& tree) {
  bool gone = eventually([&] {
    reap();
    for (pid_t pid : tree) {
      if (is_running(pid)) return false;
    }
    return true;
  });
  if (!gone) throw std::runtime_error("the dump left a process");
}

void dump_with(const std::string& program, Guest& guest, const std::vector<std::string>& options) {
  auto tree = tree_of(guest.pid());
  std::vector<std::string> words{"dump", "-t", std::to_string(guest.pid()), "-D", guest.directory()};
  words.insert(words.end(), options.begin(), options.end());
  run_well(program, words);
  wait_until_gone(tree);
}

void restore_with(const std::string& program, Guest& guest, const std::vector<std::string>& options) {
  std::vector<std::string> words{"restore", "-d", "-D", guest.directory()};
  words.insert(words.end(), options.begin(), options.end());
  guest.ask_for_connections();
  run_well(program, words);
  CHECK(guest.goes_on());
}

std::string failures_of_ours(const Guest& guest, const std::string& restorer) {
  std::istringstream all(guest.failures());
  std::string line, left;
  while (std::getline(all, line)) {
    bool lost = restorer == kStock && line.find(kLostByRestore) != std::string::npos;
    for (const char* part : kLostByEither) lost |= line.find(part) != std::string::npos;
    if (!lost) left += line + "\n";
  }
  return left;
}

uintmax_t bytes_of_pages(const std::string& images) {
  uintmax_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(images)) {
    if (entry.path().filename().string().starts_with("pages-")) bytes += entry.file_size();
  }
  return bytes;
}

void wait_for_listener(unsigned short port) {
  char end_of_address[16];
  snprintf(end_of_address, sizeof end_of_address, ":%04X ", port);
  bool listens = eventually([&] {
    for (const char* path : {"/proc/net/tcp", "/proc/net/tcp6"}) {
      std::ifstream sockets(path);
      std::string number, local, remote, state;
      for (std::string line; std::getline(sockets, line);) {
        std::istringstream fields(line);
        fields >> number >> local >> remote >> state;
        if ((local + " ").ends_with(end_of_address) && state == "0A") return true;
      }
    }
    return false;
  });
  if (!listens) throw std::runtime_error("nobody listens on port " + std::to_string(port));
}

}  // namespace godwit::test
