#include "bench/program.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/measure.h"
#include "engine/base/error.h"

namespace godwit::bench {

Program::Program(std::vector<std::string> words, std::string output, int passed)
    : words_(std::move(words)), output_(std::move(output)) {
  std::vector<char*> arguments;
  for (auto& word : words_) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, output_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  // Also when it has that number already: this clears its close-on-exec flag.
  if (passed >= 0) posix_spawn_file_actions_adddup2(&actions, passed, kPassedFd);
  posix_spawn_file_actions_addclosefrom_np(&actions, passed >= 0 ? kPassedFd + 1 : kPassedFd);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
  int code = ::posix_spawn(&pid_, words_[0].c_str(), &actions, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (code != 0) {
    pid_ = 0;
    throw SystemError(code, "posix_spawn({})", words_[0]);
  }
}

Program::Program(Program&& other) noexcept
    : words_(std::move(other.words_)),
      output_(std::move(other.output_)),
      pid_(std::exchange(other.pid_, 0)) {}

Program::~Program() {
  if (pid_ != 0) end_child(pid_);
}

void Program::succeed() {
  int status = 0;
  check(::waitpid(std::exchange(pid_, 0), &status, 0), "waitpid({})", words_[0]);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
  std::string all;
  for (const auto& word : words_) all += word + " ";
  throw Error("{}: status {:#x}: {}", all, status, output());
}

std::string Program::output() const {
  return read_file_if_exists(AT_FDCWD, output_).value_or("");
}

Program start_criu(std::vector<std::string> words, const std::string& output, int passed) {
  words.insert(words.begin(), GODWIT_BUILD_DIR "/criu");
  return Program(std::move(words), output, passed);
}

double run_criu(std::vector<std::string> words, const std::string& output) {
  auto start = Clock::now();
  auto program = start_criu(std::move(words), output);
  program.succeed();
  return milliseconds_since(start);
}

void end_child(pid_t pid) {
  ::kill(pid, SIGKILL);
  while (::waitpid(pid, nullptr, __WALL) < 0 && errno == EINTR) continue;
}

void reap_all() {
  while (::waitpid(-1, nullptr, __WALL) > 0 || errno == EINTR) continue;
}

void ReadyPipe::wait() {
  pipe_.write_end.reset();
  std::byte ready{};
  if (read_up_to(pipe_.read_end.get(), std::span(&ready, 1), "status pipe") == 0) {
    throw Error("the program ended before it was ready");
  }
}

uint16_t free_port() {
  Fd probe(check(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  check(::bind(probe.get(), reinterpret_cast<sockaddr*>(&address), size), "bind(127.0.0.1)");
  check(::getsockname(probe.get(), reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
  return ntohs(address.sin_port);
}

}  // namespace godwit::bench
