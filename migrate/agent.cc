#include "migrate/agent.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <set>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "migrate/control_channel.h"
#include "migrate/move_directory.h"
#include "migrate/pages_connection.h"
#include "migrate/worker.h"
#include "pageserver/connect.h"
#include "pageserver/listener.h"
#include "tls/session.h"

namespace godwit::migrate {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kHandshakeTimeout{15'000};
constexpr milliseconds kFarewell{2'000};
constexpr milliseconds kAcceptTimeout{100};
// Connections beside those of moves: handshakes, questions. Each is a process.
constexpr size_t kSpareConnections = 32;
constexpr size_t kConnectionsOfMove = 3;

// SIGTERM, SIGINT and SIGCHLD as something to poll for.
class SignalQueue {
 public:
  SignalQueue() {
    ::sigemptyset(&set_);
    for (int number : {SIGTERM, SIGINT, SIGCHLD}) ::sigaddset(&set_, number);
    ::sigprocmask(SIG_BLOCK, &set_, &before_);
    fd_ = Fd(check(::signalfd(-1, &set_, SFD_CLOEXEC | SFD_NONBLOCK), "signalfd"));
  }
  // In a child: signals act again.
  void give_up() { ::sigprocmask(SIG_SETMASK, &before_, nullptr); }
  // Whether one of those that end us has come.
  bool asked_to_end() {
    signalfd_siginfo info{};
    bool end = false;
    while (::read(fd_.get(), &info, sizeof info) == sizeof info) end |= info.ssi_signo != SIGCHLD;
    return end;
  }
  int fd() const { return fd_.get(); }

 private:
  sigset_t set_{}, before_{};
  Fd fd_;
};

void check_allowed(const tls::PeerCertificate& peer, const AgentOptions& options) {
  if (options.allow.empty()) return;
  std::string name = common_name(peer.subject);
  for (const auto& allowed : options.allow) {
    if (name == allowed) return;
  }
  throw Error("the certificate of {} ({}) is not on the --allow list", name, peer.subject);
}

// Tells the source why; both kinds of connections begin with control messages.
void refuse(tls::Session& session, const std::string& reason) {
  pb::control_message failure;
  failure.mutable_failure()->set_reason(reason);
  ControlChannel(session).send(failure);
  session.end(kFarewell);
}

void serve_connection(tls::Connection connection, std::shared_ptr<const tls::Credentials> credentials,
                      const AgentOptions& options) {
  ErrorContext context{"client {}", connection.peer};
  tls::SessionOptions session_options;
  session_options.role = tls::Role::kServer;
  session_options.protocols = {kControlProtocol, kPagesProtocol};
  session_options.handshake_timeout = kHandshakeTimeout;
  auto session =
      std::make_unique<tls::Session>(std::move(connection), std::move(credentials), session_options);
  try {
    check_allowed(session->peer_certificate(), options);
  } catch (const Error& error) {
    refuse(*session, error.what());
    throw;
  }
  if (session->protocol() == kControlProtocol) return serve_control(*session, options);
  if (session->protocol() == kPagesProtocol) return serve_pages(std::move(session), options);
  throw Error("speaks neither {} nor {} (ALPN): is it `migrate`?", kControlProtocol, kPagesProtocol);
}

class Agent {
 public:
  explicit Agent(const AgentOptions& options)
      : options_(options),
        credentials_(std::make_shared<const tls::Credentials>(options.credentials)),
        listener_(std::make_unique<pageserver::Listener>(options.address, options.port)) {}

  uint16_t port() const { return listener_->port(); }

  void serve() {
    for (;;) {
      pollfd waits[] = {{listener_->fd(), POLLIN, 0}, {signals_.fd(), POLLIN, 0}};
      if (::poll(waits, 2, -1) < 0 && errno != EINTR) throw SystemError(errno, "poll");
      if (signals_.asked_to_end()) return;
      reap();
      if ((waits[0].revents & POLLIN) == 0) continue;
      if (auto connection = listener_->accept(kAcceptTimeout)) start(std::move(*connection));
    }
  }

 private:
  void start(tls::Connection connection) {
    if (connections_.size() >= kConnectionsOfMove * options_.max_moves + kSpareConnections) {
      log::warning("{}: turned away, {} connections are open", connection.peer, connections_.size());
      return;
    }
    pid_t pid = ::fork();
    if (pid < 0) {
      log::error("fork: {}", SystemError::errno_text(errno));
      return;
    }
    if (pid == 0) ::_exit(serve_in_child(std::move(connection)));
    connections_.insert(pid);
  }

  int serve_in_child(tls::Connection connection) {
    signals_.give_up();
    // Not by the listener's own means: it shares its event queue with our parent.
    ::close(listener_->fd());
    try {
      serve_connection(std::move(connection), credentials_, options_);
      return 0;
    } catch (const std::exception& error) {
      log::error("{}", error.what());
      return 1;
    }
  }

  void reap() {
    int status = 0;
    for (pid_t pid = ::waitpid(-1, &status, WNOHANG | __WALL); pid > 0;
         pid = ::waitpid(-1, &status, WNOHANG | __WALL)) {
      if (connections_.erase(pid) == 0) {
        log::info("pid {}, which was restored here, has ended with status {:#x}", pid, status);
      } else if (WIFSIGNALED(status)) {
        log::error("the worker {} was ended by signal {}", pid, WTERMSIG(status));
      }
    }
  }

  const AgentOptions& options_;
  SignalQueue signals_;
  std::shared_ptr<const tls::Credentials> credentials_;
  std::unique_ptr<pageserver::Listener> listener_;
  std::set<pid_t> connections_;
};

// Moves whose worker died with an earlier agent, or with the host.
void settle_old_moves(const std::string& work_dir) {
  for (const auto& id : moves_in(work_dir)) {
    auto move = MoveDirectory::open_if_exists(work_dir, id);
    if (!move || read_journal(move->fd()).empty()) continue;
    auto verdict = settle(*move, milliseconds{0});
    log::debug("move {}: {}", id, pb::verdict::state_Name(verdict.outcome()));
  }
}

void announce(const AgentOptions& options, uint16_t port) {
  log::info("agent: listening on {}",
            pageserver::endpoint_text(options.address.empty() ? "*" : options.address, port));
  if (options.pidfile) {
    Fd file = open_at(AT_FDCWD, *options.pidfile, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    std::string text = std::to_string(::getpid());
    write_all(file.get(), std::as_bytes(std::span(text)), options.pidfile->c_str());
  }
  if (!options.status_fd) return;
  Fd status(*options.status_fd);
  write_all(status.get(), std::as_bytes(std::span("", 1)), "--status-fd");
}

}  // namespace

std::string common_name(std::string_view subject) {
  while (!subject.empty()) {
    std::string part;
    while (!subject.empty() && subject.front() != ',') {
      // RFC 4514: a backslash takes the next character as it is.
      if (subject.front() == '\\' && subject.size() > 1) subject.remove_prefix(1);
      part += subject.front();
      subject.remove_prefix(1);
    }
    if (!subject.empty()) subject.remove_prefix(1);
    if (part.starts_with("CN=")) return part.substr(3);
  }
  return "";
}

int run_agent(const AgentOptions& options) {
  std::filesystem::create_directories(options.work_dir);
  check(::chmod(options.work_dir.c_str(), 0700), "chmod({})", options.work_dir);
  // The trees that workers restored must not become init's when the workers end.
  check(::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)");
  Agent agent(options);
  settle_old_moves(options.work_dir);
  announce(options, agent.port());
  agent.serve();
  if (options.pidfile) ::unlink(options.pidfile->c_str());
  log::info("agent: ends; what was restored here runs on");
  return 0;
}

}  // namespace godwit::migrate
