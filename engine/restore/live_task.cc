#include "engine/restore/live_task.h"

#include <signal.h>

#include <algorithm>
#include <chrono>

#include "engine/base/error.h"

namespace godwit::restore {

tracee::BatchResults LiveTask::run(const tracee::Batch& batch, const char* what) {
  auto results = caller->run(leader(), batch);
  results.check_all(what);
  return results;
}

void LiveTask::enter_group_stop() {
  constexpr std::chrono::seconds kPatience(10);
  tracee::KernelWaiter waiter;
  auto next_stop = [&](const tracee::Tracee& thread) {
    auto stop = waiter.wait(thread.tid(), tracee::Clock::now() + kPatience);
    if (!stop || stop->is_dead()) throw Error("tid {} does not stop", thread.tid());
  };
  // The leader is the first to run, so it takes the signal, first its delivery and then the stop; the others
  // find the stop pending on their way out of the kernel.
  check(::kill(image->pid, SIGSTOP), "kill({}, SIGSTOP)", image->pid);
  leader().resume();
  next_stop(leader());
  leader().resume(SIGSTOP);
  next_stop(leader());
  for (size_t i = 1; i < threads.size(); ++i) {
    threads[i].resume();
    next_stop(threads[i]);
  }
}

void run_in_parallel(std::vector<LiveTask>& tasks, const std::vector<std::vector<tracee::Batch>>& batches,
                     const char* what) {
  size_t rounds = 0;
  for (const auto& of_task : batches) rounds = std::max(rounds, of_task.size());
  for (size_t round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < tasks.size(); ++i) {
      if (round < batches[i].size()) tasks[i].caller->start(tasks[i].leader(), batches[i][round]);
    }
    for (size_t i = 0; i < tasks.size(); ++i) {
      if (round < batches[i].size()) tasks[i].caller->finish(tasks[i].leader()).check_all(what);
    }
  }
}

}  // namespace godwit::restore
