#include "tests/support/program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "tests/support/child.h"

namespace godwit::test {
namespace {

[[noreturn]] void execute(const std::vector<std::string>& words) {
  std::vector<char*> pointers;
  for (const auto& word : words) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  ::execv(pointers[0], pointers.data());
  ::_exit(127);
}

int exit_status(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string read_whole(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

Outcome run(const std::vector<std::string>& words, int limit_s) {
  // A file, not a pipe: what the program leaves behind may hold its output open.
  char path[] = "/tmp/godwit-output-XXXXXX";
  int output = ::mkostemp(path, O_CLOEXEC);
  if (output < 0) throw std::runtime_error("mkostemp");
  pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(::open("/dev/null", O_RDONLY), 0);
    ::dup2(output, 1);
    ::dup2(output, 2);
    ::syscall(SYS_close_range, 3u, ~0u, 0);
    execute(words);
  }
  ::close(output);
  auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(limit_s);
  int status = 0;
  while (::waitpid(pid, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > deadline) ::kill(pid, SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  Outcome outcome{exit_status(status), read_whole(path)};
  ::unlink(path);
  return outcome;
}

Outcome criu(std::vector<std::string> words, int limit_s) {
  words.insert(words.begin(), GODWIT_BUILD_DIR "/criu");
  return run(words, limit_s);
}

pid_t start(const std::vector<std::string>& words) {
  pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::setsid();
  int null = ::open("/dev/null", O_RDWR);
  for (int fd : {0, 1, 2}) ::dup2(null, fd);
  ::syscall(SYS_close_range, 3u, ~0u, 0);
  execute(words);
}

void become_reaper() {
  ::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

void reap() {
  while (::waitpid(-1, nullptr, WNOHANG | __WALL) > 0) {
  }
}

bool is_running(pid_t pid) {
  std::string stat = read_whole("/proc/" + std::to_string(pid) + "/stat");
  size_t name = stat.rfind(") ");
  return name != std::string::npos && stat[name + 2] != 'Z' && stat[name + 2] != 'X';
}

std::vector<pid_t> tree_of(pid_t root) {
  std::vector<pid_t> tree;
  if (::kill(root, 0) == 0) tree.push_back(root);
  for (size_t i = 0; i < tree.size(); ++i) {
    std::string pid = std::to_string(tree[i]);
    std::istringstream children(read_whole("/proc/" + pid + "/task/" + pid + "/children"));
    for (pid_t child; children >> child;) tree.push_back(child);
  }
  return tree;
}

void end_tree(pid_t root) {
  auto tree = tree_of(root);
  for (pid_t pid : tree) ::kill(pid, SIGKILL);
  eventually([&] {
    reap();
    for (pid_t pid : tree) {
      if (is_running(pid)) return false;
    }
    return true;
  });
}

}  // namespace godwit::test
