#include "tests/support/guest.h"

#include <fstream>
#include <sstream>
#include <stdexcept>

#include "tests/support/child.h"
#include "tests/support/program.h"

namespace godwit::test {

Guest::Guest(const std::string& name, const std::vector<std::string>& arguments)
    : report_(directory_ / "report") {
  become_reaper();
  std::filesystem::permissions(directory_.path(), std::filesystem::perms::all);
  std::vector<std::string> words{GODWIT_BUILD_DIR "/guests/" + name, report_};
  words.insert(words.end(), arguments.begin(), arguments.end());
  pid_ = start(words);
  if (!eventually([&] { return rounds() > 2; })) {
    end_tree(pid_);
    throw std::runtime_error("guest " + name + " does not start: " + failures());
  }
}

Guest::~Guest() {
  end_tree(pid_);
}

std::string Guest::directory(const std::string& name) {
  std::filesystem::create_directories(directory_ / name);
  return directory_ / name;
}

unsigned long Guest::rounds() const {
  std::ifstream file(report_);
  unsigned long rounds = 0;
  file >> rounds;
  return rounds;
}

std::string Guest::failures() const {
  std::ifstream file(report_);
  std::string first, line, all;
  std::getline(file, first);
  while (std::getline(file, line)) all += line + "\n";
  return all;
}

bool Guest::goes_on(unsigned long more) const {
  unsigned long before = rounds();
  return eventually([&] { return rounds() > before + more; });
}

void Guest::ask_for_connections() {
  std::ofstream request(report_ + ".connect");
}

void Guest::dump(const std::vector<std::string>& options) {
  std::vector<std::string> words{"dump", "-t",      std::to_string(pid_), "-D", directory(), "-v4",
                                 "-o",   "dump.log"};
  words.insert(words.end(), options.begin(), options.end());
  auto tree = tree_of(pid_);
  Outcome outcome = criu(words);
  if (outcome.status != 0) throw std::runtime_error("criu dump: " + outcome.output);
  bool gone = eventually([&] {
    reap();
    for (pid_t pid : tree) {
      if (is_running(pid)) return false;
    }
    return true;
  });
  if (!gone) throw std::runtime_error("criu dump left a process");
}

void Guest::restore(const std::vector<std::string>& options) {
  std::vector<std::string> words{"restore", "-D", directory(), "-d", "-v4", "-o", "restore.log"};
  words.insert(words.end(), options.begin(), options.end());
  ask_for_connections();
  Outcome outcome = criu(words);
  if (outcome.status != 0) throw std::runtime_error("criu restore: " + outcome.output);
}

}  // namespace godwit::test
