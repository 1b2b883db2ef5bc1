#include "migrate/source.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "engine/base/error.h"
#include "engine/base/fault_point.h"
#include "engine/base/log.h"
#include "engine/base/units.h"
#include "migrate/agent_link.h"
#include "migrate/display.h"
#include "migrate/guardian.h"
#include "migrate/journal.h"
#include "migrate/move_report.h"
#include "migrate/rounds.h"
#include "migrate/shell_command.h"
#include "migrate/tree_survey.h"

namespace godwit::migrate {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kAskAgain{500};
constexpr milliseconds kFarewell{2'000};
constexpr size_t kProbeBytes = 4 << 20;
constexpr int kRoundTrips = 5;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Small images are written while nothing runs, and nobody needs them after a crash: in memory if possible.
std::string small_images_place(const std::string& work_dir, const std::string& id) {
  struct statfs system {};
  if (::statfs("/dev/shm", &system) == 0 && system.f_type == TMPFS_MAGIC) return "/dev/shm/godwit-" + id;
  return work_dir + "/" + id + "/images";
}

AgentAddress agent_address(const RunOptions& options) {
  return {options.host, options.port, std::make_shared<const tls::Credentials>(options.credentials),
          options.verify_name, options.timeout};
}

MoveReport new_report(const RunOptions& options) {
  MoveReport report;
  report.id = new_move_id();
  report.pid = options.tree;
  report.mode = options.mode == Mode::kPostcopy ? "post-copy" : "pre-copy";
  report.destination = pageserver::endpoint_text(options.host, options.port);
  return report;
}

Fd make_directory(const std::string& path) {
  std::filesystem::create_directories(path);
  return open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
}

// One move at the source's side. The steps stand in the order of run().
class Move {
 public:
  explicit Move(const RunOptions& options);
  Move(const Move&) = delete;
  Move& operator=(const Move&) = delete;
  ~Move() {
    std::error_code ignored;
    std::filesystem::remove_all(images_, ignored);
  }

  int run();

 private:
  void connect();
  bool preflight();
  void measure_link();
  void precopy();
  void final_dump();
  void restore();
  void commit();
  pb::verdict ask_for_commit();
  pb::verdict ask_until_answered();
  void finish_precopy();
  int finish_postcopy();
  int after_commit();
  void say_done();
  int give_up_after_commit(const std::string& reason);
  void roll_back(const std::string& reason);
  void enter(std::string_view state, const std::string& detail = "");
  int report(const std::string& outcome, const std::string& reason, int status);

  const RunOptions& options_;
  Display display_;
  AgentAddress agent_;
  MoveReport report_;
  Clock::time_point start_ = Clock::now();
  std::string images_;
  Fd directory_;
  Journal journal_;
  Guardian guardian_;
  ActionCommands hooks_;
  std::unique_ptr<tls::Session> session_;
  std::unique_ptr<ControlChannel> channel_;
  TreeSurvey survey_;
  Rounds rounds_;
  std::vector<TaskIdentity> tasks_;
  Clock::time_point frozen_at_{}, committed_at_{};
  bool held_ = false;       // the frozen tasks would stop, not run, if we died
  bool committed_ = false;  // the tree is the agent's
};

Move::Move(const RunOptions& options)
    : options_(options),
      display_(options.json ? stderr : stdout),
      agent_(agent_address(options)),
      report_(new_report(options)),
      images_(small_images_place(options.work_dir, report_.id)),
      directory_(make_directory(options.work_dir + "/" + report_.id)),
      journal_(Journal::open(directory_.get())),
      guardian_(agent_, report_.id, images_),
      hooks_(options.action_scripts, report_.id),
      rounds_(
          {.options = options, .agent = agent_, .move_id = report_.id, .images = images_, .hooks = hooks_}) {}

void Move::connect() {
  journal_.append(state::kPreflight, fmt::format("pid {} to {}", options_.tree, report_.destination));
  fault_point("migrate-preflight");
  survey_ = survey_tree(options_.tree);
  report_.name = survey_.name;
  report_.processes = survey_.pids.size();
  report_.threads = survey_.threads;
  report_.resident_bytes = survey_.resident_bytes;
  display_.beginning(report_);
  session_ = connect_agent(agent_, kControlProtocol);
  ErrorContext context{"agent {}", agent_.text()};
  channel_ = std::make_unique<ControlChannel>(*session_);
  greet_agent(*channel_, report_.id, false, agent_.timeout);
}

void Move::measure_link() {
  pb::control_message probe;
  probe.mutable_probe()->set_answer(true);
  report_.round_trip = 1e9;
  for (int i = 0; i < kRoundTrips; ++i) {
    auto start = Clock::now();
    channel_->send(probe);
    expect(*channel_, pb::control_message::kProbeAnswer, agent_.timeout);
    report_.round_trip = std::min(report_.round_trip, seconds_since(start));
  }
  // Bytes that no link compresses.
  std::string payload(kProbeBytes, '\0');
  uint64_t state = 88172645463325252u;
  for (char& byte : payload) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    byte = static_cast<char>(state);
  }
  probe.mutable_probe()->set_payload(std::move(payload));
  auto start = Clock::now();
  channel_->send(probe);
  expect(*channel_, pb::control_message::kProbeAnswer, agent_.timeout);
  report_.link_rate = kProbeBytes / std::max(seconds_since(start) - report_.round_trip, 1e-6);
}

bool Move::preflight() {
  display_.under_way("preflight");
  ErrorContext context{"agent {}", agent_.text()};
  measure_link();
  pb::control_message question;
  *question.mutable_preflight() = make_preflight(survey_, options_.mode == Mode::kPostcopy);
  channel_->send(question);
  auto answer = expect(*channel_, pb::control_message::kFindings, agent_.timeout);
  for (const auto& finding : answer.findings().finding()) {
    std::string text = finding.what() + (finding.has_advice() ? " -> " + finding.advice() : "");
    (finding.blocks() ? report_.findings : report_.warnings).push_back(std::move(text));
  }
  for (auto& text : rounds_.check_tracking()) report_.findings.push_back(std::move(text));
  display_.preflight(report_);
  return report_.findings.empty();
}

void Move::enter(std::string_view state, const std::string& detail) {
  journal_.append(state, detail);
  pb::control_message message;
  message.mutable_enter()->set_state(detail.empty() ? std::string(state)
                                                    : fmt::format("{} {}", state, detail));
  channel_->send(message);
  expect(*channel_, pb::control_message::kEntered, agent_.timeout);
}

void Move::precopy() {
  Convergence convergence(options_.limits, {.round_trip = report_.round_trip,
                                            .resident_pages = survey_.resident_bytes / kPageSize,
                                            .tasks = static_cast<unsigned>(survey_.threads)});
  for (auto decision = Decision::kNextRound; decision == Decision::kNextRound;) {
    unsigned number = rounds_.next_number();
    enter(state::kPrecopy, std::to_string(number));
    fault_point("migrate-precopy");
    display_.under_way(fmt::format("round {}", number));
    RoundFacts facts = rounds_.pre_copy();
    decision = convergence.add(facts);
    report_.bytes_on_wire += facts.bytes_sent;
    report_.rounds.push_back({facts, convergence.forecast()});
    display_.round(number, report_.rounds.back());
    if (decision != Decision::kNextRound) report_.why_rounds_ended = reason_of(decision);
  }
  display_.rounds_end(report_.why_rounds_ended);
}

void Move::final_dump() {
  enter(state::kFinal);
  fault_point("migrate-final");
  rounds_.connect_final();
  display_.under_way("final dump");
  frozen_at_ = Clock::now();
  FinalFacts facts = rounds_.final_dump();
  report_.last.dirty_pages = facts.dirty_pages;
  report_.last.shipped_pages = facts.shipped_pages;
  report_.last.lazy_pages = facts.lazy_pages;
  report_.last.freeze = facts.freeze;
  report_.last.ship = facts.ship;
  report_.bytes_on_wire += facts.bytes_sent;
  display_.step("freeze", facts.freeze);
  display_.step("ship", facts.ship,
                options_.mode == Mode::kPostcopy
                    ? fmt::format("{} pages, {} left for later", facts.shipped_pages, facts.lazy_pages)
                    : fmt::format("{} pages of {} dirty", facts.shipped_pages, facts.dirty_pages));
  fault_point("migrate-dumped");
}

void Move::restore() {
  journal_.append(state::kRestoring);
  auto start = Clock::now();
  report_.last.image_bytes = rounds_.send_images(*channel_);
  report_.last.images = seconds_since(start);
  report_.bytes_on_wire += report_.last.image_bytes;
  fault_point("migrate-images-sent");
  pb::control_message request;
  auto& what = *request.mutable_restore();
  what.set_tcp_close(options_.tcp_close);
  what.set_shell_job(options_.shell_job);
  what.set_lazy(options_.mode == Mode::kPostcopy);
  channel_->send(request);
  ErrorContext context{"agent {}: restore", agent_.text()};
  auto restored = expect(*channel_, pb::control_message::kRestored, agent_.timeout).restored();
  report_.last.restore = seconds_since(start) - report_.last.images;
  display_.step("images", report_.last.images, fmt::format("{} KiB", report_.last.image_bytes / kKiB));
  display_.step("restore", report_.last.restore,
                fmt::format("pid {}, {} pages, held", restored.root(), restored.pages()));
  fault_point("migrate-restored");
}

// Until the question is out, every failure is a rollback. From then on only the agent's verdict counts.
void Move::commit() {
  if (options_.pre_commit) {
    run_shell_command(*options_.pre_commit, {{"GODWIT_MOVE_ID", report_.id},
                                             {"GODWIT_PID", std::to_string(options_.tree)},
                                             {"GODWIT_DESTINATION", options_.host}});
  }
  tasks_ = rounds_.task_identities();
  // Tasks that stood in a group stop before have nothing to continue.
  std::erase_if(tasks_, [&](const TaskIdentity& task) { return survey_.stopped.contains(task.pid); });
  journal_.append(state::kAsking);
  guardian_.set(Custody::kAsk, tasks_);
  held_ = true;
  hold_tasks(tasks_);
  fault_point("migrate-asking");
  auto start = Clock::now();
  auto verdict = ask_for_commit();
  if (verdict.outcome() == pb::verdict::UNDECIDED) verdict = ask_until_answered();
  report_.downtime = seconds_since(frozen_at_) - report_.round_trip / 2;
  report_.last.commit = seconds_since(start);
  if (verdict.outcome() == pb::verdict::RESUMED) {
    committed_ = true;
    committed_at_ = Clock::now();
    rounds_.set_committed();
    fault_point("migrate-answered");
    return journal_.append(state::kCommitted);
  }
  throw Error("agent {}: {}", agent_.text(), verdict.reason());
}

pb::verdict Move::ask_for_commit() {
  try {
    pb::control_message question;
    question.mutable_commit();
    channel_->send(question);
    auto answer = channel_->receive(agent_.timeout);
    if (answer.body_case() == pb::control_message::kVerdict) return answer.verdict();
    display_.line(
        fmt::format("asked       for the commit, answer: {}",
                    answer.has_failure() ? answer.failure().reason() : std::string(body_name(answer))));
  } catch (const std::exception& error) {
    display_.line(fmt::format("contact     lost after the commit was asked for: {}", error.what()));
  }
  // The agent's side ends what is not committed when this connection ends.
  session_->abort();
  return {};
}

pb::verdict Move::ask_until_answered() {
  for (;; std::this_thread::sleep_for(kAskAgain)) {
    try {
      auto verdict = ask_verdict(agent_, report_.id);
      if (verdict.outcome() != pb::verdict::UNDECIDED) return verdict;
      display_.under_way("the agent has not settled the move yet");
    } catch (const std::exception& error) {
      display_.under_way(fmt::format("neither copy runs until the agent answers: {}", error.what()));
      log::warning("asking for the verdict: {}", error.what());
    }
  }
}

void Move::finish_precopy() {
  rounds_.end_source();
  guardian_.set(Custody::kNone, {});
}

int Move::finish_postcopy() {
  guardian_.set(Custody::kKeepHeld, tasks_);
  journal_.append(state::kPostcopy);
  fault_point("migrate-postcopy");
  display_.under_way("post-copy");
  auto lazy = rounds_.wait_for_postcopy();
  report_.postcopy = std::chrono::duration<double>(rounds_.postcopy_end() - committed_at_).count();
  report_.postcopy_pages = lazy.pages;
  report_.bytes_on_wire += lazy.pages * kPageSize;
  if (lazy.end == pageserver::LazyEnd::kLost) {
    // Running it would make two copies; ending it would lose the pages that are missing there.
    rounds_.leave_source_stopped();
    return report("moved with trouble",
                  fmt::format("post-copy: {}; the tree at {} lacks pages, the copy here is left stopped",
                              lazy.reason, report_.destination),
                  kMovedWithTrouble);
  }
  rounds_.end_source();
  guardian_.set(Custody::kNone, {});
  display_.step("post-copy", report_.postcopy,
                fmt::format("{} pages in {} requests", lazy.pages, lazy.requests));
  return kMoved;
}

int Move::after_commit() {
  display_.step("resume", report_.last.commit);
  std::string trouble;
  if (options_.mode == Mode::kPrecopy) finish_precopy();
  if (options_.post_commit) {
    auto start = Clock::now();
    try {
      run_shell_command(*options_.post_commit, {{"GODWIT_MOVE_ID", report_.id},
                                                {"GODWIT_PID", std::to_string(options_.tree)},
                                                {"GODWIT_DESTINATION", options_.host}});
      display_.step("post-commit", seconds_since(start));
    } catch (const std::exception& error) {
      trouble = fmt::format("--post-commit: {}", error.what());
    }
  }
  if (options_.mode == Mode::kPostcopy) {
    if (int status = finish_postcopy(); status != kMoved) return status;
  }
  say_done();
  if (trouble.empty()) return report("moved", "", kMoved);
  return report("moved with trouble", trouble, kMovedWithTrouble);
}

// The agent learns that nothing is owed any more; a move whose connection was lost at the commit is done too.
void Move::say_done() {
  try {
    enter(state::kDone);
    session_->end(kFarewell);
  } catch (const std::exception& error) {
    log::info("the agent does not hear that all is done: {}", error.what());
  }
}

void Move::roll_back(const std::string& reason) {
  if (held_) unhold_tasks(tasks_);
  rounds_.resume_source();
  try {
    if (held_) guardian_.set(Custody::kNone, {});
    if (channel_) {
      pb::control_message cancel;
      cancel.mutable_cancel();
      channel_->send(cancel);
      while (auto answer = channel_->receive_if_open(kFarewell)) {
        if (answer->has_failure()) break;
      }
    }
  } catch (const std::exception&) {  // it may be what failed
  }
  if (session_) session_->abort();
  try {
    journal_.append(state::kRolledBack, reason);
  } catch (const std::exception& error) {
    log::error("{}", error.what());
  }
}

int Move::report(const std::string& outcome, const std::string& reason, int status) {
  report_.outcome = outcome;
  report_.reason = reason;
  report_.total = seconds_since(start_);
  if (status == kMoved || status == kMovedWithTrouble) display_.summary(report_);
  if (options_.json) std::printf("%s\n", to_json(report_).c_str());
  if (!reason.empty()) {
    std::fflush(stdout);
    log::error("{}: {}", outcome, reason);
  }
  return status;
}

int Move::run() {
  try {
    connect();
    bool clear = preflight();
    if (!clear || options_.check_only) {
      roll_back(clear ? "only a check" : "preflight");
      if (clear) return report("checked", "", kMoved);
      return report("not moved",
                    fmt::format("{} things are in the way at {}; pid {} runs on here",
                                report_.findings.size(), report_.destination, options_.tree),
                    kPreflightFailed);
    }
    if (options_.mode == Mode::kPrecopy) precopy();
    final_dump();
    restore();
    commit();
  } catch (const std::exception& error) {
    if (committed_) return give_up_after_commit(error.what());
    roll_back(error.what());
    return report("rolled back", fmt::format("{}; pid {} runs on here", error.what(), options_.tree),
                  kRolledBack);
  }
  try {
    return after_commit();
  } catch (const std::exception& error) {
    return give_up_after_commit(error.what());
  }
}

// The tree runs there, so whatever failed here must not bring the copy back to life.
int Move::give_up_after_commit(const std::string& reason) {
  if (options_.mode == Mode::kPrecopy) {
    rounds_.end_source();
  } else {
    rounds_.leave_source_stopped();
  }
  return report("moved with trouble", reason, kMovedWithTrouble);
}

}  // namespace

int run_source(const RunOptions& options) {
  Move move(options);
  return move.run();
}

}  // namespace godwit::migrate
