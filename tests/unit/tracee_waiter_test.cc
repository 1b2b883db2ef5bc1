#include "engine/tracee/waiter.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/ptrace.h>

#include <vector>

#include "engine/base/error.h"

using namespace godwit;
using namespace godwit::tracee;

namespace {

constexpr int stopped(int signal, int event = 0) {
  return event << 16 | signal << 8 | 0x7f;
}

// Reports what it was given, then nothing any more.
class ScriptedWaiter final : public Waiter {
 public:
  explicit ScriptedWaiter(std::vector<int> reports) : reports_(std::move(reports)) {}
  std::optional<WaitStatus> wait(pid_t, Deadline) override {
    if (next_ == reports_.size()) return std::nullopt;
    return WaitStatus(reports_[next_++]);
  }

 private:
  std::vector<int> reports_;
  size_t next_ = 0;
};

bool is_event_stop(WaitStatus status) {
  return status.event() == PTRACE_EVENT_STOP;
}

}  // namespace

TEST_CASE("a wait status says what it is") {
  WaitStatus delivery(stopped(SIGUSR1));
  CHECK(delivery.delivery_signal() == SIGUSR1);
  CHECK(delivery.event() == 0);
  CHECK_FALSE(delivery.is_dead());
  WaitStatus group(stopped(SIGTTIN, PTRACE_EVENT_STOP));
  CHECK(group.group_stop_signal() == SIGTTIN);
  CHECK(group.delivery_signal() == 0);
  WaitStatus interrupted(stopped(SIGTRAP, PTRACE_EVENT_STOP));
  CHECK(interrupted.event() == PTRACE_EVENT_STOP);
  CHECK(interrupted.group_stop_signal() == 0);
  WaitStatus call(stopped(SIGTRAP | 0x80));
  CHECK(call.at_system_call());
  CHECK(call.delivery_signal() == 0);
  CHECK(WaitStatus(3 << 8).describe() == "exited with status 3");
  CHECK(WaitStatus(SIGKILL).describe() == "was killed by signal 9 (Killed)");
  CHECK(WaitStatus::gone().is_dead());
  CHECK(WaitStatus::gone().event() == 0);
}

TEST_CASE("wait_until lets a thread go on until the wanted report") {
  ScriptedWaiter waiter(
      {stopped(SIGUSR1), stopped(SIGTRAP, PTRACE_EVENT_CLONE), stopped(SIGTRAP, PTRACE_EVENT_STOP)});
  std::vector<int> delivered;
  auto status = wait_until(waiter, 1, std::nullopt, is_event_stop,
                           [&](WaitStatus other) { delivered.push_back(other.delivery_signal()); });
  REQUIRE(status);
  CHECK(status->event() == PTRACE_EVENT_STOP);
  CHECK(delivered == std::vector<int>{SIGUSR1, 0});
}

TEST_CASE("wait_until ends with the thread, also when it dies between its stop and its resumption") {
  ScriptedWaiter waiter({stopped(SIGUSR1), SIGKILL});
  auto gone = [](WaitStatus) { throw SystemError(ESRCH, "PTRACE_CONT"); };
  auto status = wait_until(waiter, 1, std::nullopt, is_event_stop, gone);
  REQUIRE(status);
  CHECK(status->is_dead());
  ScriptedWaiter another({stopped(SIGUSR1)});
  auto broken = [](WaitStatus) { throw SystemError(EIO, "PTRACE_CONT"); };
  CHECK_THROWS_AS(wait_until(another, 1, std::nullopt, is_event_stop, broken), SystemError);
}

TEST_CASE("wait_until is empty when the deadline passes") {
  ScriptedWaiter waiter({stopped(SIGUSR1)});
  CHECK_FALSE(wait_until(waiter, 1, Clock::now(), is_event_stop, [](WaitStatus) {}));
}
