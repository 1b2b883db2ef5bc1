#include "engine/task/scheduling.h"

#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include "engine/base/error.h"

namespace godwit::task {
namespace {

class SchedulingPart final : public TaskPart {
 public:
  Answer ask(const ThreadFacts& thread, tracee::Batch&, pb::core_entry& core,
             kinds::Problems& problems) override {
    pid_t tid = thread.tracee.tid();
    int policy = check(::sched_getscheduler(tid), "sched_getscheduler({})", tid) & ~SCHED_RESET_ON_FORK;
    sched_param parameters{};
    check(::sched_getparam(tid, &parameters), "sched_getparam({})", tid);
    if (policy == kDeadline) problems.add("tid {}: SCHED_DEADLINE: not available yet", tid);
    auto& entry = *core.mutable_thread_core();
    entry.set_sched_nice(static_cast<int32_t>(thread.stat.nice));
    entry.set_sched_policy(static_cast<uint32_t>(policy));
    entry.set_sched_prio(static_cast<uint32_t>(parameters.sched_priority));
    return {};
  }

  void restore(const ThreadImage& thread, tracee::Batch& batch) override {
    const auto& entry = thread.core.thread_core();
    if (entry.has_sched_policy()) {
      sched_param parameters{.sched_priority = static_cast<int>(entry.sched_prio())};
      batch.call(SYS_sched_setscheduler, {0, entry.sched_policy(), batch.put_object(parameters)});
    }
    if (entry.has_sched_nice()) batch.call(SYS_setpriority, {PRIO_PROCESS, 0, entry.sched_nice()});
  }

 private:
  static constexpr int kDeadline = 6;  // linux/sched.h, which clashes with sched.h
};

}  // namespace

std::unique_ptr<TaskPart> make_scheduling_part() {
  return std::make_unique<SchedulingPart>();
}

}  // namespace godwit::task
