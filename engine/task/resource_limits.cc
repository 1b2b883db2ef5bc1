#include "engine/task/resource_limits.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <vector>

namespace godwit::task {
namespace {

constexpr int kLimitCount = RLIM_NLIMITS;

class ResourceLimitsPart final : public TaskPart {
 public:
  // Asked of the task itself: prlimit(2) on a task of another user needs CAP_SYS_RESOURCE.
  Answer ask(const ThreadFacts& thread, tracee::Batch& batch, pb::core_entry&, kinds::Problems&) override {
    if (!thread.leader) return {};
    std::vector<tracee::Batch::Data> limits;
    for (int resource = 0; resource < kLimitCount; ++resource) {
      limits.push_back(batch.reserve(sizeof(rlimit), alignof(rlimit)));
      batch.call(SYS_prlimit64, {0, resource, 0, limits.back()});
    }
    return [limits](const tracee::BatchResults& results, pb::core_entry& core) {
      for (auto data : limits) {
        auto limit = results.get<rlimit>(data);
        auto& entry = *core.mutable_tc()->mutable_rlimits()->add_rlimits();
        entry.set_cur(limit.rlim_cur);
        entry.set_max(limit.rlim_max);
      }
    };
  }

  void plan(const ThreadImage& thread, kinds::Problems& problems) override {
    const auto& limits = thread.core.tc().rlimits().rlimits();
    if (!thread.leader) return;
    if (limits.size() > kLimitCount)
      problems.add("core of pid {}: {} resource limits", thread.pid, limits.size());
    for (int resource = 0; resource < std::min<int>(limits.size(), kLimitCount); ++resource) {
      rlimit own{};
      ::getrlimit(static_cast<__rlimit_resource>(resource), &own);
      // Try what the task will have to do; without CAP_SYS_RESOURCE a hard limit only goes down.
      if (limits[resource].max() > own.rlim_max && !may_raise()) {
        problems.add(
            "pid {}: its hard resource limit {} is {}, ours {}, and raising it needs CAP_SYS_RESOURCE",
            thread.pid, resource, limits[resource].max(), own.rlim_max);
      }
    }
  }

  void restore(const ThreadImage& thread, tracee::Batch& batch) override {
    if (!thread.leader) return;
    int resource = 0;
    for (const auto& entry : thread.core.tc().rlimits().rlimits()) {
      batch.call(SYS_prlimit64, {0, resource++, batch.put_object(rlimit{entry.cur(), entry.max()}), 0});
    }
  }

 private:
  static bool may_raise() {
    constexpr int kCapSysResource = 24;
    static const bool capable =
        (kernel::read_task_status(::getpid(), ::getpid()).cap_effective >> kCapSysResource & 1) != 0;
    return capable;
  }
};

}  // namespace

std::unique_ptr<TaskPart> make_resource_limits_part() {
  return std::make_unique<ResourceLimitsPart>();
}

}  // namespace godwit::task
