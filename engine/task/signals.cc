#include "engine/task/signals.h"

#include <signal.h>
#include <sys/syscall.h>

#include <cstring>
#include <vector>

#include "engine/base/bytes.h"

namespace godwit::task {
namespace {

constexpr int kSignalCount = 64;
constexpr size_t kMaskBytes = 8;
constexpr size_t kSiginfoBytes = 128;

// struct sigaction as rt_sigaction(2) has it, not as the C library does.
struct KernelSigaction {
  uint64_t handler = 0, flags = 0, restorer = 0, mask = 0;
};

// struct stack_t.
struct KernelStack {
  uint64_t address = 0;
  int32_t flags = 0;
  int32_t padding = 0;
  uint64_t size = 0;
};

bool has_action(int signal) {
  return signal != SIGKILL && signal != SIGSTOP;
}

void encode(const std::vector<siginfo_t>& pending, pb::signal_queue_entry& queue) {
  for (const siginfo_t& info : pending) {
    queue.add_signals()->set_siginfo(std::string(reinterpret_cast<const char*>(&info), sizeof info));
  }
}

class SignalsPart final : public TaskPart {
 public:
  Answer ask(const ThreadFacts& thread, tracee::Batch& batch, pb::core_entry& core,
             kinds::Problems&) override {
    auto& thread_core = *core.mutable_thread_core();
    thread_core.set_blk_sigset(thread.tracee.frozen().signal_mask);
    encode(thread.tracee.pending_private_signals(), *thread_core.mutable_signals_p());
    std::vector<tracee::Batch::Data> actions;
    if (thread.leader) {
      core.mutable_tc()->set_blk_sigset(thread.tracee.frozen().signal_mask);
      encode(thread.tracee.pending_shared_signals(), *core.mutable_tc()->mutable_signals_s());
      actions = ask_actions(batch);
    }
    auto stack = batch.reserve(sizeof(KernelStack), alignof(KernelStack));
    batch.call(SYS_sigaltstack, {0, stack});
    return [stack, actions](const tracee::BatchResults& results, pb::core_entry& answered) {
      auto alternate = results.get<KernelStack>(stack);
      auto& entry = *answered.mutable_thread_core()->mutable_sas();
      entry.set_ss_sp(alternate.address);
      entry.set_ss_size(alternate.size);
      entry.set_ss_flags(static_cast<uint32_t>(alternate.flags));
      for (auto action : actions) encode_action(results.get<KernelSigaction>(action), *answered.mutable_tc());
    };
  }

  void restore(const ThreadImage& thread, tracee::Batch& batch) override {
    const auto& thread_core = thread.core.thread_core();
    if (thread_core.has_sas()) {
      // SS_ONSTACK is the kernel's observation, not a setting.
      KernelStack stack{.address = thread_core.sas().ss_sp(),
                        .flags = static_cast<int32_t>(thread_core.sas().ss_flags()) & ~SS_ONSTACK,
                        .size = thread_core.sas().ss_size()};
      batch.call(SYS_sigaltstack, {batch.put_object(stack), 0});
    }
    if (thread.leader) restore_actions(thread.core.tc(), batch);
    // The batch runs with all signals blocked, so what is queued here waits for the task's own mask. A kernel
    // that merges standard signals keeps one of each, as it did before.
    for (const auto& info : thread_core.signals_p().signals())
      queue(info, SYS_rt_tgsigqueueinfo, thread, batch);
    if (!thread.leader) return;
    for (const auto& info : thread.core.tc().signals_s().signals())
      queue(info, SYS_rt_sigqueueinfo, thread, batch);
  }

  void plan(const ThreadImage& thread, kinds::Problems& problems) override {
    check_queue(thread, thread.core.thread_core().signals_p(), problems);
    if (!thread.leader) return;
    check_queue(thread, thread.core.tc().signals_s(), problems);
    int count = thread.core.tc().sigactions_size();
    if (count != kSignalCount - 2)
      problems.add("core of pid {}: {} signal actions, not 62", thread.pid, count);
  }

 private:
  static std::vector<tracee::Batch::Data> ask_actions(tracee::Batch& batch) {
    std::vector<tracee::Batch::Data> actions;
    for (int signal = 1; signal <= kSignalCount; ++signal) {
      if (!has_action(signal)) continue;
      actions.push_back(batch.reserve(sizeof(KernelSigaction), alignof(KernelSigaction)));
      batch.call(SYS_rt_sigaction, {signal, 0, actions.back(), kMaskBytes});
    }
    return actions;
  }

  static void encode_action(const KernelSigaction& action, pb::task_core_entry& core) {
    auto& entry = *core.add_sigactions();
    entry.set_sigaction(action.handler);
    entry.set_flags(action.flags);
    entry.set_restorer(action.restorer);
    entry.set_mask(action.mask);
    entry.set_compat_sigaction(false);
  }

  static void restore_actions(const pb::task_core_entry& core, tracee::Batch& batch) {
    // The rebuilding itself raised SIGCHLDs that the program never earned: take them out of the queue first.
    // EAGAIN is the usual answer.
    uint64_t child_signal = uint64_t{1} << (SIGCHLD - 1);
    struct timespec no_wait {};
    batch.call(SYS_rt_sigtimedwait,
               {batch.put_object(child_signal), 0, batch.put_object(no_wait), kMaskBytes},
               tracee::OnFailure::kContinue);
    int index = 0;
    for (int signal = 1; signal <= kSignalCount; ++signal) {
      if (!has_action(signal) || index >= core.sigactions_size()) continue;
      const auto& entry = core.sigactions(index++);
      KernelSigaction action{entry.sigaction(), entry.flags(), entry.restorer(), entry.mask()};
      batch.call(SYS_rt_sigaction, {signal, batch.put_object(action), 0, kMaskBytes});
    }
  }

  static void check_queue(const ThreadImage& thread, const pb::signal_queue_entry& queue,
                          kinds::Problems& problems) {
    for (const auto& info : queue.signals()) {
      if (info.siginfo().size() != kSiginfoBytes) {
        problems.add("core of tid {}: a siginfo of {} bytes, not {}", thread.tid, info.siginfo().size(),
                     kSiginfoBytes);
      }
    }
  }

  static void queue(const pb::siginfo_entry& info, long call, const ThreadImage& thread,
                    tracee::Batch& batch) {
    int signal;
    std::memcpy(&signal, info.siginfo().data(), sizeof signal);
    auto data = batch.put(std::as_bytes(std::span(info.siginfo())));
    if (call == SYS_rt_sigqueueinfo) {
      batch.call(call, {thread.pid, signal, data});
    } else {
      batch.call(call, {thread.pid, thread.tid, signal, data});
    }
  }
};

}  // namespace

std::unique_ptr<TaskPart> make_signals_part() {
  return std::make_unique<SignalsPart>();
}

}  // namespace godwit::task
