#include "migrate/guardian.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <filesystem>
#include <thread>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/log.h"

namespace godwit::migrate {
namespace {

constexpr std::chrono::milliseconds kAskAgain{500};

// Travels as header, then `count` identities.
struct Order {
  Custody custody = Custody::kNone;
  uint32_t count = 0;
};

void signal_tasks(const std::vector<TaskIdentity>& tasks, int number) {
  for (const auto& task : tasks) {
    if (is_alive(task)) ::kill(task.pid, number);
  }
}

void decide(const AgentAddress& agent, const std::string& move_id, const std::vector<TaskIdentity>& tasks) {
  log::warning("move {}: migrate run died after it asked for the commit; asking the agent what became of it",
               move_id);
  for (;; std::this_thread::sleep_for(kAskAgain)) {
    try {
      auto verdict = ask_verdict(agent, move_id);
      if (verdict.outcome() == pb::verdict::RESUMED) {
        log::warning("move {}: it was committed; the copy here is ended", move_id);
        return kill_tasks(tasks);
      }
      if (verdict.outcome() == pb::verdict::ABORTED) {
        log::warning("move {}: it was aborted; the copy here runs on", move_id);
        return unhold_tasks(tasks);
      }
    } catch (const std::exception& error) {
      log::warning("move {}: {}", move_id, error.what());
    }
  }
}

void guard(int socket, const AgentAddress& agent, const std::string& move_id) {
  Order order;
  std::vector<TaskIdentity> tasks;
  Order next;
  while (read_up_to(socket, writable_bytes_of(next), "guardian") == sizeof next) {
    std::vector<TaskIdentity> named(next.count);
    read_exactly(socket, std::as_writable_bytes(std::span(named)), "guardian");
    order = next;
    tasks = std::move(named);
    write_all(socket, std::array{std::byte{1}}, "guardian");
  }
  if (order.custody == Custody::kAsk) decide(agent, move_id, tasks);
  if (order.custody == Custody::kKeepHeld) {
    log::warning(
        "move {}: migrate run died in post-copy; the copy here stays stopped, as the other side lacks pages",
        move_id);
  }
}

}  // namespace

Guardian::Guardian(const AgentAddress& agent, const std::string& move_id, const std::string& images) {
  auto pair = SocketPair::create(SOCK_STREAM);
  pid_ = check(::fork(), "fork of the guardian");
  if (pid_ == 0) {
    // Out of reach of what ends us: the terminal, its process group, a closed pipe.
    ::setsid();
    ::signal(SIGPIPE, SIG_IGN);
    pair.first.reset();
    Fd nothing = open_at(AT_FDCWD, "/dev/null", O_RDWR);
    ::dup2(nothing.get(), STDIN_FILENO);
    ::dup2(nothing.get(), STDOUT_FILENO);
    int status = 0;
    try {
      guard(pair.second.get(), agent, move_id);
    } catch (const std::exception& error) {
      log::error("guardian: {}", error.what());
      status = 1;
    }
    std::error_code ignored;
    std::filesystem::remove_all(images, ignored);
    ::_exit(status);
  }
  socket_ = std::move(pair.first);
}

Guardian::~Guardian() {
  socket_.reset();
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) continue;
}

void Guardian::set(Custody custody, const std::vector<TaskIdentity>& tasks) {
  Order order{custody, static_cast<uint32_t>(tasks.size())};
  write_all(socket_.get(), bytes_of(order), "guardian");
  write_all(socket_.get(), std::as_bytes(std::span(tasks)), "guardian");
  std::byte answer;
  if (read_up_to(socket_.get(), std::span(&answer, 1), "guardian") != 1) {
    throw Error("the guardian process {} is gone", pid_);
  }
}

void hold_tasks(const std::vector<TaskIdentity>& tasks) {
  signal_tasks(tasks, SIGSTOP);
}

void unhold_tasks(const std::vector<TaskIdentity>& tasks) {
  signal_tasks(tasks, SIGCONT);
}

void kill_tasks(const std::vector<TaskIdentity>& tasks) {
  signal_tasks(tasks, SIGKILL);
}

}  // namespace godwit::migrate
