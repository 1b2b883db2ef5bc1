#include "engine/restore/plan.h"

#include <signal.h>

#include "engine/base/error.h"
#include "engine/kernel/proc_task.h"
#include "engine/memory/rebuild.h"
#include "engine/memory/vma.h"
#include "engine/tree/registry.h"

namespace godwit::restore {
namespace {

void check_pids(const tree::ImageTree& tree, kinds::Problems& problems) {
  for (const auto& task : tree.tasks) {
    for (const auto& thread : task.threads) {
      if (::kill(thread.tid, 0) != 0 && errno == ESRCH) continue;
      auto stat = kernel::read_task_stat_if_alive(thread.tid, thread.tid);
      problems.add("pid {} is taken by {}", thread.tid, stat ? stat->comm : "another task");
    }
  }
}

void check_file_ids(Plan& plan, kinds::Problems& problems) {
  for (const auto& task : plan.tree.tasks) {
    if (task.zombie()) continue;
    std::vector<uint32_t> ids{task.mm.exe_file_id(), task.fs.cwd_id()};
    for (const auto& vma : task.mm.vmas()) {
      if (memory::has_status(vma, memory::kVmaFilePrivate | memory::kVmaFileShared)) {
        ids.push_back(static_cast<uint32_t>(vma.shmid()));
      }
    }
    for (uint32_t id : ids) plan.files->entry(id);
    if (plan.files->path_of(task.fs.root_id()) != "/") {
      problems.add("pid {}: its root directory is {}: not available yet", task.pid,
                   plan.files->path_of(task.fs.root_id()));
    }
  }
}

void open_pages(const RestoreRequest& request, Plan& plan, kinds::Problems& problems) {
  for (const auto& task : plan.tree.tasks) {
    if (task.zombie()) {
      plan.pages.push_back(images::PagemapChain::none());
      continue;
    }
    ErrorContext context{"memory of pid {}", task.pid};
    auto chain = images::PagemapChain::open_if_exists(request.images, images::Kind::kPagemap,
                                                      static_cast<uint64_t>(task.pid));
    if (!chain) {
      throw FormatError("{}: missing",
                        request.images.name_of(images::Kind::kPagemap, static_cast<uint64_t>(task.pid)));
    }
    memory::plan_address_space(task.pid, task.mm, *chain, static_cast<bool>(request.hand_over), problems);
    plan.pages.push_back(std::move(*chain));
  }
}

void plan_parts(const RestoreRequest& request, Plan& plan, kinds::Problems& problems) {
  plan.parts = tree::make_task_parts();
  for (auto& part : plan.parts) {
    part->read_images(request.images);
    for (const auto& task : plan.tree.tasks) {
      if (task.zombie()) continue;
      for (const auto& thread : task.threads) {
        part->plan({task.pid, thread.tid, &thread == &task.threads.front(), thread.core}, problems);
      }
    }
  }
}

}  // namespace

Plan make_plan(const RestoreRequest& request) {
  Plan plan;
  kinds::Problems problems;
  plan.tree = tree::read_tree(request.images);
  std::vector<uint32_t> tables;
  for (const auto& task : plan.tree.tasks) {
    if (!task.zombie()) tables.push_back(task.ids.files_id());
  }
  plan.files =
      std::make_unique<files::FileOpener>(tree::make_file_kinds(), request.policy, request.images, tables);
  plan.files->plan(problems);
  check_file_ids(plan, problems);
  check_pids(plan.tree, problems);
  plan.births = tree::plan_births(plan.tree, request.policy.shell_job, problems);
  plan.groups = tree::plan_groups(plan.tree, request.policy.shell_job, problems);
  open_pages(request, plan, problems);
  plan_parts(request, plan, problems);
  problems.refuse_if_any("cannot restore");
  return plan;
}

}  // namespace godwit::restore
