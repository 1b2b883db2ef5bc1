#include "engine/tree/image_tree.h"

#include <map>
#include <set>

#include "engine/base/error.h"
#include "engine/base/units.h"

namespace godwit::tree {
namespace {

// The kernel's own limit on pids (PID_MAX_LIMIT).
constexpr uint32_t kMaxPid = 4u << 20;
constexpr uint32_t kImageVersion = 2;
constexpr uint64_t kUserSpaceEnd = uint64_t{1} << 47;

pid_t checked_pid(uint32_t number, const char* field) {
  if (number == 0 || number > kMaxPid) throw FormatError("{}: {} is not a process id", field, number);
  return static_cast<pid_t>(number);
}

void check_vmas(const pb::mm_entry& mm) {
  uint64_t end = 0;
  for (const auto& vma : mm.vmas()) {
    constexpr uint32_t kVsyscall = 4, kGuard = 1u << 16;
    if ((vma.status() & kVsyscall) != 0) continue;
    if ((vma.status() & kGuard) != 0) throw RefusedError("guard areas: not available yet");
    if (vma.start() >= vma.end() || vma.end() > kUserSpaceEnd || vma.start() % kPageSize != 0 ||
        vma.end() % kPageSize != 0 || vma.start() < end) {
      throw FormatError("vmas: {:#x}-{:#x} is out of order or out of bounds", vma.start(), vma.end());
    }
    end = vma.end();
  }
}

void read_thread(const images::ImageDirectory& directory, ImageThread& thread) {
  auto reader = directory.open(images::Kind::kCore, static_cast<uint64_t>(thread.tid));
  thread.core = reader.read_one<pb::core_entry>();
  if (thread.core.mtype() != pb::core_entry::X86_64) reader.fail("mtype: not a task of x86-64");
}

void check_live_thread(const images::ImageDirectory& directory, const ImageThread& thread) {
  if (!thread.core.has_thread_info() || !thread.core.has_thread_core()) {
    throw FormatError("{}: thread_info or thread_core is missing",
                      directory.name_of(images::Kind::kCore, static_cast<uint64_t>(thread.tid)));
  }
}

// mm-N.img; before 2014 the areas stood in a file of their own.
pb::mm_entry read_mm(const images::ImageDirectory& directory, uint64_t id) {
  ErrorContext context{"{}", directory.name_of(images::Kind::kMm, id)};
  auto mm = directory.open(images::Kind::kMm, id).read_one<pb::mm_entry>();
  if (mm.vmas_size() == 0) {
    if (auto vmas = directory.open_if_exists(images::Kind::kVmas, id)) {
      for (auto& vma : vmas->read_all<pb::vma_entry>()) *mm.add_vmas() = std::move(vma);
    }
  }
  check_vmas(mm);
  return mm;
}

void read_live_task(const images::ImageDirectory& directory, ImageTask& task) {
  auto id = static_cast<uint64_t>(task.pid);
  for (size_t i = 1; i < task.threads.size(); ++i) read_thread(directory, task.threads[i]);
  for (const auto& thread : task.threads) check_live_thread(directory, thread);
  if (auto ids = directory.open_if_exists(images::Kind::kIds, id)) {
    task.ids = ids->read_one<pb::task_kobj_ids_entry>();
  } else if (task.core().has_ids()) {
    task.ids = task.core().ids();
  } else {
    throw FormatError("{}: missing", directory.name_of(images::Kind::kIds, id));
  }
  task.mm = read_mm(directory, id);
  task.fs = directory.open(images::Kind::kFs, id).read_one<pb::fs_entry>();
}

ImageTask read_task(const images::ImageDirectory& directory, const pb::pstree_entry& entry) {
  ImageTask task;
  task.pid = checked_pid(entry.pid(), "pstree: pid");
  task.ppid = static_cast<pid_t>(entry.ppid());
  task.pgid = static_cast<pid_t>(entry.pgid());
  task.sid = static_cast<pid_t>(entry.sid());
  ErrorContext context{"pid {}", task.pid};
  task.threads.push_back({task.pid, {}});
  read_thread(directory, task.threads.front());
  if (!task.core().has_tc()) throw FormatError("core: tc is missing");
  if (task.zombie()) return task;
  for (uint32_t tid : entry.threads()) {
    if (static_cast<pid_t>(tid) != task.pid)
      task.threads.push_back({checked_pid(tid, "pstree: threads"), {}});
  }
  read_live_task(directory, task);
  return task;
}

// Finds each task's parent, which must stand before it, and refuses ids that stand twice.
void link_tasks(std::vector<ImageTask>& tasks) {
  std::map<pid_t, size_t> by_pid;
  std::set<pid_t> ids;
  for (size_t i = 0; i < tasks.size(); ++i) {
    ImageTask& task = tasks[i];
    for (const auto& thread : task.threads) {
      if (!ids.insert(thread.tid).second) throw FormatError("pstree: {} stands twice", thread.tid);
    }
    by_pid[task.pid] = i;
    if (i == 0) continue;
    auto parent = by_pid.find(task.ppid);
    if (parent == by_pid.end() || parent->second == i || tasks[parent->second].zombie()) {
      throw FormatError("pstree: the parent {} of {} does not stand before it", task.ppid, task.pid);
    }
    task.parent = parent->second;
  }
}

// Tables shared by processes that are not threads of one another come with a later issue.
void refuse_shared_tables(const std::vector<ImageTask>& tasks) {
  std::set<uint32_t> vm, files, fs, sighand;
  for (const auto& task : tasks) {
    if (task.zombie()) continue;
    if (!vm.insert(task.ids.vm_id()).second || !files.insert(task.ids.files_id()).second ||
        !fs.insert(task.ids.fs_id()).second || !sighand.insert(task.ids.sighand_id()).second) {
      throw RefusedError(
          "pid {} shares its memory, files, fs or signal handlers with another process: not available yet",
          task.pid);
    }
  }
}

}  // namespace

ImageTree read_tree(const images::ImageDirectory& directory) {
  ImageTree tree;
  tree.inventory = directory.read_inventory();
  if (tree.inventory.img_version() == 0 || tree.inventory.img_version() > kImageVersion) {
    throw RefusedError("{}: image version {}; this criu reads up to {}", directory.path(),
                       tree.inventory.img_version(), kImageVersion);
  }
  for (const auto& entry : directory.open(images::Kind::kPstree).read_all<pb::pstree_entry>()) {
    tree.tasks.push_back(read_task(directory, entry));
  }
  if (tree.tasks.empty()) throw FormatError("{}: no task", directory.name_of(images::Kind::kPstree));
  if (tree.tasks.front().zombie()) throw RefusedError("the root task {} is a zombie", tree.tasks.front().pid);
  link_tasks(tree.tasks);
  refuse_shared_tables(tree.tasks);
  return tree;
}

}  // namespace godwit::tree
