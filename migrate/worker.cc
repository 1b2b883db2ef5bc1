#include "migrate/worker.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <thread>

#include "engine/base/error.h"
#include "engine/base/fault_point.h"
#include "engine/base/log.h"
#include "engine/images/image_directory.h"
#include "engine/kernel/text_fields.h"
#include "engine/memory/lazy_handover.h"
#include "engine/restore/restore.h"
#include "migrate/control_channel.h"
#include "migrate/image_transfer.h"
#include "migrate/move_directory.h"
#include "migrate/preflight.h"
#include "migrate/shell_command.h"
#include "migrate/task_identity.h"

namespace godwit::migrate {
namespace {

using std::chrono::milliseconds;

// A source that says nothing after its hello; between later messages it may be busy with a round, and
// keepalive finds a dead one.
constexpr milliseconds kFirstMessage{60'000};
constexpr milliseconds kEndTimeout{2'000};
// A worker that was just killed may still be settling.
constexpr milliseconds kVerdictPatience{2'000};
// What was killed is gone by then.
constexpr milliseconds kDeathPatience{2'000};
// Somebody who only counts the moves holds a lock for an instant.
constexpr milliseconds kLockPatience{1'000};

pb::control_message failure_message(const std::string& reason) {
  pb::control_message message;
  message.mutable_failure()->set_reason(reason);
  return message;
}

// The states that a source tells; the others are the agent's own.
bool may_be_entered(std::string_view name) {
  return name == state::kPrecopy || name == state::kFinal || name == state::kPostcopy || name == state::kDone;
}

unsigned moves_in_progress(const std::string& work_dir) {
  unsigned count = 0;
  for (const auto& id : moves_in(work_dir)) {
    auto move = MoveDirectory::open_if_exists(work_dir, id);
    if (move && !move->lock(milliseconds{0})) ++count;
  }
  return count;
}

std::string host_name() {
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

// One move at the agent's side. Handlers stand in the order of the states.
class Worker {
 public:
  Worker(ControlChannel& channel, MoveDirectory move, const AgentOptions& options)
      : channel_(channel),
        options_(options),
        move_(std::move(move)),
        journal_(Journal::open(move_.fd())),
        hooks_(options.action_scripts, move_.id()) {}

  ~Worker() {
    if (committed_) return;
    tree_.reset();
    move_.remove_images();
  }

  void run() {
    try {
      while (!committed_) {
        auto message = channel_.receive_if_open();
        if (!message) throw Error("the source went away");
        handle(*message);
      }
      serve_committed();
    } catch (const std::exception& error) {
      if (!committed_) roll_back(error.what());
      throw;
    }
  }

 private:
  void handle(const pb::control_message& message) {
    switch (message.body_case()) {
      case pb::control_message::kProbe:
        return answer_probe(message.probe());
      case pb::control_message::kPreflight:
        return preflight(message.preflight());
      case pb::control_message::kEnter:
        return enter(message.enter());
      case pb::control_message::kImagePart:
        return add_image(message.image_part());
      case pb::control_message::kRestore:
        return restore(message.restore());
      case pb::control_message::kCommit:
        return commit();
      case pb::control_message::kCancel:
        throw Error("the source cancelled the move");
      default:
        throw FormatError("{}: not expected here", body_name(message));
    }
  }

  void answer_probe(const pb::probe& probe) {
    if (!probe.answer()) return;
    pb::control_message reply;
    reply.mutable_probe_answer();
    channel_.send(reply);
  }

  void preflight(const pb::preflight& question) {
    journal_.append(state::kPreflight, question.hostname());
    pb::control_message reply;
    *reply.mutable_findings() = check_preflight(question, surroundings_here(move_.path()));
    channel_.send(reply);
  }

  void enter(const pb::enter& state) {
    if (state.state().size() > 200) throw FormatError("state of {} bytes", state.state().size());
    std::string_view detail = state.state();
    std::string_view entered = kernel::take_until(detail, ' ');
    if (!may_be_entered(entered)) throw FormatError("state '{}'", entered);
    journal_.append(entered, detail);
    fault_point("migrate-agent-entered");
    pb::control_message reply;
    reply.mutable_entered();
    channel_.send(reply);
  }

  void add_image(const pb::image_part& part) {
    if (!images_fd_) images_fd_ = open_at(AT_FDCWD, move_.round_path(0), O_RDONLY | O_DIRECTORY);
    if (!images_) images_.emplace(images_fd_.get());
    images_->add(part);
  }

  void restore(const pb::restore& request) {
    if (!images_ || !images_->complete()) throw FormatError("restore before the images are complete");
    if (tree_) throw FormatError("restore is asked for twice");
    journal_.append(state::kRestoring);
    fault_point("migrate-agent-restoring");
    directory_ = std::make_unique<images::ImageDirectory>(images::ImageDirectory::open(move_.round_path(0)));
    restore::RestoreRequest what{.images = *directory_, .hooks = hooks_};
    what.policy = {.tcp_close = request.tcp_close(), .shell_job = request.shell_job()};
    std::optional<memory::LazyHandoverClient> lazy;
    if (request.lazy()) {
      lazy.emplace(memory::LazyHandoverClient::connect(move_.path()));
      what.hand_over = [&lazy](pid_t pid, Fd userfaultfd) { lazy->send(pid, std::move(userfaultfd)); };
      what.tree_is_complete = [&lazy](pid_t) { lazy->finish(); };
    }
    tree_ = std::make_unique<restore::RestoredTree>(restore::restore_tree(what));
    auto statistics = tree_->statistics();
    log::info("restored pid {} in {} us, held", tree_->root(), statistics.restore_time());
    fault_point("migrate-agent-restored");
    pb::control_message reply;
    auto& restored = *reply.mutable_restored();
    restored.set_root(static_cast<uint32_t>(tree_->root()));
    restored.set_restore_us(statistics.restore_time());
    restored.set_pages(statistics.pages_restored());
    channel_.send(reply);
  }

  void commit() {
    if (!tree_) throw FormatError("commit before restore");
    auto tasks = identities_of(*directory_);
    journal_.append(state::kCommitted, to_text(tasks));
    fault_point("migrate-agent-committed");
    release(tasks);
    committed_ = true;
    fault_point("migrate-agent-released");
    journal_.append(state::kResumed);
    fault_point("migrate-agent-resumed");
    send_verdict(pb::verdict::RESUMED, "");
  }

  // What fails after the moment of release (a post-resume script) must not be taken for a tree that never
  // ran.
  void release(const std::vector<TaskIdentity>& tasks) {
    try {
      tree_->release();
    } catch (const std::exception& error) {
      tree_.reset();  // kills what was not released
      auto deadline = std::chrono::steady_clock::now() + kDeathPatience;
      while (std::ranges::any_of(tasks, is_alive)) {
        if (std::chrono::steady_clock::now() > deadline) {
          log::error("the tree runs, but: {}", error.what());
          return;
        }
        std::this_thread::sleep_for(milliseconds{10});
      }
      throw;
    }
  }

  void send_verdict(pb::verdict::state outcome, const std::string& reason) {
    pb::control_message reply;
    reply.mutable_verdict()->set_outcome(outcome);
    if (!reason.empty()) reply.mutable_verdict()->set_reason(reason);
    channel_.send(reply);
  }

  // The move is done; the source may still ask, and says goodbye by ending the stream.
  void serve_committed() {
    while (auto message = channel_.receive_if_open()) {
      if (message->body_case() == pb::control_message::kEnter) {
        enter(message->enter());
      } else {
        send_verdict(pb::verdict::RESUMED, "");
      }
    }
    move_.remove_images();
  }

  void roll_back(const std::string& reason) {
    tree_.reset();
    try {
      journal_.append(state::kAborted, reason);
      channel_.send(failure_message(reason));
    } catch (const std::exception& error) {
      log::info("the source does not hear of it: {}", error.what());
    }
  }

  ControlChannel& channel_;
  const AgentOptions& options_;
  MoveDirectory move_;
  Journal journal_;
  ActionCommands hooks_;
  Fd images_fd_;
  std::optional<ImageReceiver> images_;
  std::unique_ptr<images::ImageDirectory> directory_;
  std::unique_ptr<restore::RestoredTree> tree_;
  bool committed_ = false;
};

void answer_verdict(ControlChannel& channel, const std::string& id, const tls::PeerCertificate& peer,
                    const AgentOptions& options) {
  pb::control_message reply;
  auto move = MoveDirectory::open_if_exists(options.work_dir, id);
  if (!move) {
    // Never begun here, and its id will not be used again: nothing of it can run.
    reply.mutable_verdict()->set_outcome(pb::verdict::ABORTED);
    reply.mutable_verdict()->set_reason("the agent knows no such move");
  } else if (move->peer_fingerprint() != peer.sha256) {
    throw Error("move {} was begun with another certificate", id);
  } else {
    *reply.mutable_verdict() = settle(*move, kVerdictPatience);
  }
  channel.send(reply);
}

void serve_move(ControlChannel& channel, const pb::hello& hello, const tls::PeerCertificate& peer,
                const AgentOptions& options) {
  if (moves_in_progress(options.work_dir) >= options.max_moves) {
    throw Error("{} moves are in progress, --max-moves is reached: try again later", options.max_moves);
  }
  auto move = MoveDirectory::create(options.work_dir, hello.id(), peer.sha256);
  if (!move.lock(kLockPatience)) throw Error("move {} is in progress", hello.id());
  Worker(channel, std::move(move), options).run();
}

}  // namespace

void serve_control(tls::Session& session, const AgentOptions& options) {
  ControlChannel channel(session);
  auto first = channel.receive(kFirstMessage);
  if (first.body_case() != pb::control_message::kHello) {
    throw FormatError("{} where hello was expected", body_name(first));
  }
  const pb::hello& hello = first.hello();
  log::set_prefix(hello.id() + ": ");
  try {
    if (!is_move_id(hello.id())) throw FormatError("not the id of a move: '{}'", hello.id());
    if (hello.version() != kControlVersion) {
      throw Error(
          "the source speaks version {} of the control protocol, this agent {}: install the same release",
          hello.version(), kControlVersion);
    }
    pb::control_message reply;
    reply.mutable_welcome()->set_version(kControlVersion);
    reply.mutable_welcome()->set_program("godwit " GODWIT_VERSION);
    reply.mutable_welcome()->set_hostname(host_name());
    channel.send(reply);
    if (hello.verdict_only()) {
      answer_verdict(channel, hello.id(), session.peer_certificate(), options);
    } else {
      serve_move(channel, hello, session.peer_certificate(), options);
    }
  } catch (const std::exception& error) {
    try {
      channel.send(failure_message(error.what()));
    } catch (const std::exception&) {  // the first error is the one to tell
    }
    session.end(kEndTimeout);
    throw;
  }
  session.end(kEndTimeout);
}

}  // namespace godwit::migrate
