#include "engine/files/descriptor_install.h"

#include <fcntl.h>
#include <sys/syscall.h>

#include <algorithm>

namespace godwit::files {
namespace {

using Call = InstallStep::Call;

// The lowest number that nobody wants: there the pidfd stands out of the way.
int first_gap(std::span<const WantedDescriptor> wanted) {
  int gap = 0;
  for (const WantedDescriptor& descriptor : wanted) {
    if (descriptor.number != gap) break;
    ++gap;
  }
  return gap;
}

void add_call(tracee::Batch& batch, const InstallStep& step, pid_t owner) {
  int cloexec = step.close_on_exec ? O_CLOEXEC : 0;
  switch (step.call) {
    case Call::kOpenPidfd:
      batch.call(SYS_pidfd_open, {owner, 0});
      return;
    case Call::kGet:
      batch.call(SYS_pidfd_getfd, {step.from, step.source, 0});
      return;
    case Call::kMove:
      batch.call(SYS_dup3, {step.from, step.to, cloexec});
      return;
    case Call::kClose:
      batch.call(SYS_close, {step.from});
      return;
    case Call::kKeepOnExec:
      batch.call(SYS_fcntl, {step.from, F_SETFD, 0});
      return;
  }
}

}  // namespace

std::vector<InstallStep> install_steps(std::span<const WantedDescriptor> wanted) {
  std::vector<InstallStep> steps;
  if (wanted.empty()) return steps;
  const int pidfd = first_gap(wanted);
  steps.push_back({.call = Call::kOpenPidfd, .to = 0});
  if (pidfd != 0) {
    steps.push_back({.call = Call::kMove, .from = 0, .to = pidfd, .close_on_exec = true});
    steps.push_back({.call = Call::kClose, .from = 0});
  }
  // The lowest free number. Everything below it is taken for good, as temporaries are closed at once.
  int free = pidfd == 0 ? 1 : 0;
  for (const WantedDescriptor& descriptor : wanted) {
    steps.push_back({.call = Call::kGet, .from = pidfd, .to = free, .source = descriptor.source});
    if (free != descriptor.number) {
      steps.push_back({.call = Call::kMove,
                       .from = free,
                       .to = descriptor.number,
                       .close_on_exec = descriptor.close_on_exec});
      steps.push_back({.call = Call::kClose, .from = free});
      continue;
    }
    if (!descriptor.close_on_exec) steps.push_back({.call = Call::kKeepOnExec, .from = descriptor.number});
    ++free;
    if (free == pidfd) ++free;
  }
  steps.push_back({.call = Call::kClose, .from = pidfd});
  return steps;
}

int highest_number(std::span<const InstallStep> steps) {
  int highest = -1;
  for (const InstallStep& step : steps) highest = std::max({highest, step.from, step.to});
  return highest;
}

std::vector<tracee::Batch> install_batches(std::span<const InstallStep> steps, pid_t owner,
                                           size_t max_calls) {
  std::vector<tracee::Batch> batches;
  for (const InstallStep& step : steps) {
    if (batches.empty() || batches.back().size() >= max_calls) batches.emplace_back();
    add_call(batches.back(), step, owner);
  }
  return batches;
}

}  // namespace godwit::files
