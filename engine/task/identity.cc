#include "engine/task/identity.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/kernel/text_fields.h"

namespace godwit::task {
namespace {

// membarrier(2) commands; the C library has no header for them.
constexpr int kMembarrierGetRegistrations = 1 << 9;  // Linux 6.3
// Each registration's command by its bit in what the former returns.
constexpr uint32_t kMembarrierRegistrations = 1u << 2 | 1u << 4 | 1u << 6 | 1u << 8;

template <class Number>
Number read_number(pid_t pid, const char* name) {
  std::string text = read_file(AT_FDCWD, fmt::format("/proc/{}/{}", pid, name));
  std::string_view rest = text;
  std::string_view line = kernel::take_until(rest, '\n');
  return kernel::parse_number<Number>(line, name);
}

class IdentityPart final : public TaskPart {
 public:
  Answer ask(const ThreadFacts& thread, tracee::Batch& batch, pb::core_entry& core,
             kinds::Problems&) override {
    core.mutable_thread_core()->set_comm(thread.stat.comm);
    auto death_signal = batch.reserve(sizeof(int), alignof(int));
    batch.call(SYS_prctl, {PR_GET_PDEATHSIG, death_signal, 0, 0, 0});
    if (!thread.leader) {
      return [death_signal](const tracee::BatchResults& results, pb::core_entry& answered) {
        set_death_signal(results.get<int>(death_signal), answered);
      };
    }
    auto& task = *core.mutable_tc();
    pid_t pid = thread.tracee.pid();
    task.set_comm(thread.stat.comm);
    task.set_flags(0);
    task.set_exit_code(0);
    task.set_oom_score_adj(read_number<int32_t>(pid, "oom_score_adj"));
    auto subreaper = batch.reserve(sizeof(int), alignof(int));
    batch.call(SYS_prctl, {PR_GET_CHILD_SUBREAPER, subreaper, 0, 0, 0});
    constexpr uint32_t kAskOnly = 0xffffffff;
    auto personality = batch.call(SYS_personality, {kAskOnly});
    auto barriers =
        batch.call(SYS_membarrier, {kMembarrierGetRegistrations, 0, 0}, tracee::OnFailure::kContinue);
    return [=](const tracee::BatchResults& results, pb::core_entry& answered) {
      set_death_signal(results.get<int>(death_signal), answered);
      auto& answered_task = *answered.mutable_tc();
      answered_task.set_child_subreaper(results.get<int>(subreaper) != 0);
      answered_task.set_personality(static_cast<uint32_t>(results.value(personality)));
      if (results.value(barriers) > 0) {
        answered_task.set_membarrier_registration_mask(static_cast<uint32_t>(results.value(barriers)));
      }
    };
  }

  void plan(const ThreadImage& thread, kinds::Problems& problems) override {
    if (!thread.leader) return;
    if (thread.core.tc().membarrier_registration_mask() & ~kMembarrierRegistrations) {
      problems.add("core of pid {}: membarrier registrations {:#x}", thread.pid,
                   thread.core.tc().membarrier_registration_mask());
    }
  }

  void restore(const ThreadImage& thread, tracee::Batch& batch) override {
    const auto& entry = thread.core.thread_core();
    const std::string& comm = entry.has_comm() ? entry.comm() : thread.core.tc().comm();
    batch.call(SYS_prctl, {PR_SET_NAME, batch.put_string(comm), 0, 0, 0});
    if (thread.leader) restore_process(thread.core.tc(), batch);
  }

 private:
  static void set_death_signal(int signal, pb::core_entry& core) {
    if (signal != 0) core.mutable_thread_core()->set_pdeath_sig(static_cast<uint32_t>(signal));
  }

  static void restore_process(const pb::task_core_entry& task, tracee::Batch& batch) {
    batch.call(SYS_personality, {task.personality()});
    if (task.child_subreaper()) batch.call(SYS_prctl, {PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0});
    for (uint32_t bit = 1; bit != 0 && bit <= task.membarrier_registration_mask(); bit <<= 1) {
      if ((task.membarrier_registration_mask() & bit) != 0) batch.call(SYS_membarrier, {bit, 0, 0});
    }
    if (task.has_oom_score_adj()) {
      // Going below what the starter was allowed needs CAP_SYS_RESOURCE; the task then keeps the starter's
      // score.
      std::string text = std::to_string(task.oom_score_adj());
      auto file =
          batch.call(SYS_openat, {AT_FDCWD, batch.put_string("/proc/self/oom_score_adj"), O_WRONLY, 0});
      batch.call(SYS_write, {file, batch.put_string(text), text.size()}, tracee::OnFailure::kContinue);
      batch.call(SYS_close, {file});
    }
  }
};

}  // namespace

std::unique_ptr<TaskPart> make_identity_part() {
  return std::make_unique<IdentityPart>();
}

}  // namespace godwit::task
