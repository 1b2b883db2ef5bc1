#include "engine/dump/collect.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <unistd.h>

#include <array>
#include <set>
#include <string_view>

#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/kernel/kcmp.h"
#include "engine/memory/address_space.h"
#include "engine/task/registers.h"
#include "engine/tracee/syscall_restart.h"
#include "engine/tree/image_tree.h"
#include "engine/tree/registry.h"

namespace godwit::dump {
namespace {

// A namespace's name in /proc/PID/ns, and where its id goes. Our own namespaces have these ids in the
// inventory too: an equal id says that the tree has no namespace of its own.
struct NamespaceField {
  const char* name;
  void (pb::task_kobj_ids_entry::*set)(uint32_t);
};
constexpr std::array<NamespaceField, 8> kNamespaces{{
    {"pid", &pb::task_kobj_ids_entry::set_pid_ns_id},
    {"net", &pb::task_kobj_ids_entry::set_net_ns_id},
    {"ipc", &pb::task_kobj_ids_entry::set_ipc_ns_id},
    {"uts", &pb::task_kobj_ids_entry::set_uts_ns_id},
    {"mnt", &pb::task_kobj_ids_entry::set_mnt_ns_id},
    {"user", &pb::task_kobj_ids_entry::set_user_ns_id},
    {"cgroup", &pb::task_kobj_ids_entry::set_cgroup_ns_id},
    {"time", &pb::task_kobj_ids_entry::set_time_ns_id},
}};

pb::task_kobj_ids_entry kobj_ids(uint32_t number) {
  pb::task_kobj_ids_entry ids;
  ids.set_vm_id(number);
  ids.set_files_id(number);
  ids.set_fs_id(number);
  ids.set_sighand_id(number);
  uint32_t next = 1;
  for (const auto& field : kNamespaces) (ids.*field.set)(next++);
  return ids;
}

pb::core_entry zombie_core(const tracee::FrozenProcess& process, const kernel::TaskStat& stat) {
  pb::core_entry core;
  core.set_mtype(pb::core_entry::X86_64);
  auto& task = *core.mutable_tc();
  task.set_task_state(tree::kTaskZombie);
  task.set_exit_code(static_cast<uint32_t>(process.exit_status));
  task.set_personality(0);
  task.set_flags(0);
  task.set_blk_sigset(0);
  task.set_comm(stat.comm);
  return core;
}

// The registers of the freeze, with an interrupted system call prepared to be made again.
void collect_registers(const tracee::Tracee& thread, pb::core_entry& core) {
  ErrorContext context{"tid {}", thread.tid()};
  core.set_mtype(pb::core_entry::X86_64);
  auto& info = *core.mutable_thread_info();
  info.set_clear_tid_addr(0);
  task::encode_registers(tracee::resumed_registers(thread.frozen().registers, tracee::RestartBlock::kLost),
                         *info.mutable_gpregs());
  task::encode_xstate(thread.xstate(), *info.mutable_fpregs());
}

}  // namespace

Collector::Collector(tracee::FrozenTree& tree, const kinds::Policy& policy)
    : tree_(tree),
      policy_(policy),
      files_(tree::make_file_kinds(), policy),
      parts_(tree::make_task_parts()) {}

void Collector::look_from_outside() {
  uint32_t number = 0;
  for (auto& frozen : tree_.processes()) {
    CollectedProcess process;
    process.frozen = &frozen;
    process.number = ++number;
    process.stat = kernel::read_task_stat(frozen.pid, frozen.pid);
    processes_.push_back(std::move(process));
  }
  check_sessions();
  refuse_shared_tables();
  for (auto& process : processes_) {
    if (!process.zombie()) look_at(process);
  }
  files_.check_whole();
  problems().refuse_if_any("cannot dump");
}

void Collector::look_at(CollectedProcess& process) {
  pid_t pid = process.frozen->pid;
  ErrorContext context{"pid {}", pid};
  refuse_foreign_namespaces(process);
  process.mm = memory::collect_address_space(pid, process.stat, files_);
  files_.collect_process(pid, process.number);
  process.fs.set_cwd_id(files_.add_path_file(fmt::format("/proc/{}/cwd", pid), O_RDONLY | O_DIRECTORY));
  process.fs.set_root_id(files_.add_path_file(fmt::format("/proc/{}/root", pid), O_RDONLY | O_DIRECTORY));
  if (read_link(AT_FDCWD, fmt::format("/proc/{}/root", pid)) != "/") {
    problems().add("pid {}: it has a root directory of its own: not available yet", pid);
  }
}

void Collector::refuse_foreign_namespaces(const CollectedProcess& process) {
  pid_t pid = process.frozen->pid;
  for (const auto& field : kNamespaces) {
    auto own = read_link_if_exists(AT_FDCWD, fmt::format("/proc/self/ns/{}", field.name));
    auto its = read_link_if_exists(AT_FDCWD, fmt::format("/proc/{}/ns/{}", pid, field.name));
    if (own != its) {
      problems().add(
          "pid {}: it is in a {} namespace that criu is not in: not available yet (run criu inside)", pid,
          field.name);
    }
  }
}

void Collector::refuse_shared_tables() {
  struct Table {
    int type;
    const char* name;
  };
  for (Table table : {Table{KCMP_VM, "memory"}, Table{KCMP_FILES, "descriptors"},
                      Table{KCMP_FS, "working directory"}, Table{KCMP_SIGHAND, "signal handlers"}}) {
    auto before = [&table](pid_t a, pid_t b) { return kernel::kcmp_order(a, b, table.type) < 0; };
    std::set<pid_t, decltype(before)> seen(before);
    for (const auto& process : processes_) {
      if (process.zombie()) continue;
      auto [twin, is_new] = seen.insert(process.frozen->pid);
      if (!is_new) {
        problems().add("pid {} shares its {} with pid {}: not available yet", process.frozen->pid, table.name,
                       *twin);
      }
    }
  }
}

void Collector::check_sessions() {
  std::set<pid_t> pids;
  for (const auto& process : processes_) pids.insert(process.frozen->pid);
  const kernel::TaskStat& root = processes_.front().stat;
  if (root.session != root.pid && !policy_.shell_job) {
    problems().add("the root task {} is in session {}, which stays outside: use --shell-job (-j)", root.pid,
                   root.session);
  }
  for (const auto& process : processes_) {
    const auto& stat = process.stat;
    bool from_outside = policy_.shell_job && stat.session == root.session;
    if (!pids.contains(stat.session) && !from_outside && stat.pid != root.pid) {
      problems().add("pid {} is in session {}, whose leader is not in the tree: not available yet", stat.pid,
                     stat.session);
    }
    bool group_outside = policy_.shell_job && stat.pgrp == root.pgrp;
    if (!pids.contains(stat.pgrp) && !group_outside) {
      problems().add(
          "pid {} is in process group {}, whose leader is not in the tree: {}", stat.pid, stat.pgrp,
          policy_.shell_job ? "not available yet" : "use --shell-job (-j) when the group is the shell's");
    }
  }
}

// One thread's part of the asking: its batch, and what to do with the results.
struct Collector::Question {
  tracee::Tracee& thread;
  tracee::RemoteCaller& caller;
  CollectedProcess& process;
  pb::core_entry& core;
  tracee::Batch batch{};
  std::vector<task::Answer> answers{};
  std::function<void(const tracee::BatchResults&, pb::mm_entry&)> mm_answer{};
};

void Collector::ask_tasks() {
  std::vector<Question> questions;
  for (auto& process : processes_) {
    if (process.zombie()) {
      process.cores.push_back(zombie_core(*process.frozen, process.stat));
      callers_.push_back(nullptr);
      continue;
    }
    callers_.push_back(
        std::make_unique<tracee::RemoteCaller>(tracee::RemoteCaller::for_running(process.frozen->threads)));
    process.cores.resize(process.frozen->threads.size());
    for (size_t i = 0; i < process.cores.size(); ++i) questions.push_back(prepare(process, i));
  }
  problems().refuse_if_any("cannot dump");
  for (auto& question : questions) question.caller.start(question.thread, question.batch);
  for (auto& question : questions) {
    auto results = question.caller.finish(question.thread);
    results.check_all("dump");
    for (auto& answer : question.answers) {
      if (answer) answer(results, question.core);
    }
    if (question.mm_answer) question.mm_answer(results, question.process.mm);
  }
}

Collector::Question Collector::prepare(CollectedProcess& process, size_t index) {
  tracee::Tracee& thread = process.frozen->threads[index];
  Question question{thread, caller(process), process, process.cores[index]};
  collect_registers(thread, question.core);
  task::ThreadFacts facts{thread, index == 0, kernel::read_task_stat(thread.pid(), thread.tid()),
                          kernel::read_task_status(thread.pid(), thread.tid())};
  if (facts.leader) {
    int stop_signal = process.frozen->stop_signal;
    auto& task = *question.core.mutable_tc();
    task.set_task_state(stop_signal != 0 ? tree::kTaskStopped : tree::kTaskAlive);
    if (stop_signal != 0) task.set_stop_signo(static_cast<uint32_t>(stop_signal));
    process.fs.set_umask(facts.status.umask);
    question.mm_answer = memory::ask_address_space(question.batch);
  }
  for (auto& part : parts_)
    question.answers.push_back(part->ask(facts, question.batch, question.core, problems()));
  return question;
}

void Collector::cure() {
  for (auto& caller : callers_) {
    if (caller) caller->cure();
  }
}

pb::pstree_entry Collector::pstree_entry(const CollectedProcess& process) const {
  pb::pstree_entry entry;
  bool root = &process == &processes_.front();
  entry.set_pid(static_cast<uint32_t>(process.frozen->pid));
  entry.set_ppid(root ? 0 : static_cast<uint32_t>(process.frozen->ppid));
  entry.set_pgid(static_cast<uint32_t>(process.stat.pgrp));
  entry.set_sid(static_cast<uint32_t>(process.stat.session));
  if (process.zombie()) {
    entry.add_threads(entry.pid());
  } else {
    for (const auto& thread : process.frozen->threads) entry.add_threads(static_cast<uint32_t>(thread.tid()));
  }
  return entry;
}

void Collector::write(images::ImageDirectory& images) {
  auto pstree = images.create(images::Kind::kPstree);
  for (auto& process : processes_) {
    pstree.write(pstree_entry(process));
    auto id = static_cast<uint64_t>(process.frozen->pid);
    if (process.zombie()) {
      images.write_one(images::Kind::kCore, id, process.cores.front());
      continue;
    }
    *process.cores.front().mutable_ids() = kobj_ids(process.number);
    for (size_t i = 0; i < process.cores.size(); ++i) {
      images.write_one(images::Kind::kCore, static_cast<uint64_t>(process.frozen->threads[i].tid()),
                       process.cores[i]);
    }
    images.write_one(images::Kind::kIds, id, process.cores.front().ids());
    images.write_one(images::Kind::kMm, id, process.mm);
    images.write_one(images::Kind::kFs, id, process.fs);
  }
  pstree.finish();
  files_.write(images);
  for (auto& part : parts_) part->write_images(images);
}

pb::inventory_entry make_inventory(size_t processes, const kinds::Policy& policy) {
  pb::inventory_entry inventory;
  inventory.set_img_version(2);
  inventory.set_fdinfo_per_id(true);
  inventory.set_ns_per_id(true);
  // Our own ids; the tree's numbers count from 1, ours must differ from all of them.
  *inventory.mutable_root_ids() = kobj_ids(static_cast<uint32_t>(processes) + 1);
  inventory.set_lsmtype(pb::NO_LSM);
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  inventory.set_dump_uptime(static_cast<uint64_t>(now.tv_sec) * 1'000'000 +
                            static_cast<uint64_t>(now.tv_nsec) / 1000);
  inventory.set_tcp_close(policy.tcp_close);
  inventory.set_network_lock_method(2);  // skip: nothing is locked
  inventory.mutable_plugins_entry();
  return inventory;
}

}  // namespace godwit::dump
