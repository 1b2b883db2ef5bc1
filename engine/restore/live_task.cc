#include "engine/restore/live_task.h"

#include <algorithm>

#include "engine/base/error.h"

namespace godwit::restore {

tracee::BatchResults LiveTask::run(const tracee::Batch& batch, const char* what) {
  auto results = caller->run(leader(), batch);
  results.check_all(what);
  return results;
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
