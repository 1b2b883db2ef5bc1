#include "engine/restore/tree_builder.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "engine/base/error.h"
#include "engine/base/fault_point.h"
#include "engine/base/log.h"
#include "engine/base/stopwatch.h"
#include "engine/base/units.h"
#include "engine/kernel/proc_maps.h"
#include "engine/kernel/proc_task.h"
#include "engine/memory/lazy_registration.h"
#include "engine/memory/rebuild.h"
#include "engine/task/registers.h"
#include "engine/tracee/seed.h"

namespace godwit::restore {
namespace {

using tracee::Batch;

// Waits until a killed tracee or child is gone; what it still reports before that is dropped.
void wait_for_death(pid_t tid) {
  for (;;) {
    int status = 0;
    if (::waitpid(tid, &status, __WALL) < 0) {
      if (errno != EINTR) return;
    } else if (WIFEXITED(status) || WIFSIGNALED(status)) {
      return;
    }
  }
}

std::vector<kernel::MapsEntry> maps_of(pid_t pid) {
  return kernel::parse_maps(read_file(AT_FDCWD, fmt::format("/proc/{}/maps", pid)));
}

// A task that we neither trace nor are the parent of cannot be waited for.
void wait_until_zombie(pid_t pid) {
  constexpr int kTries = 10'000;
  for (int i = 0; i < kTries; ++i) {
    if (kernel::read_task_stat(pid, pid).state == 'Z') return;
    ::usleep(1000);
  }
  throw Error("pid {} did not end as the zombie it is to be", pid);
}

}  // namespace

TreeBuilder::TreeBuilder(const RestoreRequest& request, Plan plan)
    : request_(request), plan_(std::move(plan)) {}

TreeBuilder::~TreeBuilder() {
  kill_all();
}

std::vector<std::vector<Batch>> TreeBuilder::for_each_task(
    const std::function<std::vector<Batch>(LiveTask&)>& make) {
  std::vector<std::vector<Batch>> batches;
  for (auto& task : tasks_) {
    batches.push_back(task.image->zombie() || task.threads.empty() ? std::vector<Batch>{} : make(task));
  }
  return batches;
}

void TreeBuilder::place_scratch(const std::vector<kernel::MapsEntry>& seed) {
  // Room for a batch of each thread of the largest task.
  constexpr uint64_t kPerThread = 128 * kKiB;
  size_t threads = 1;
  std::vector<const pb::mm_entry*> layouts;
  for (const auto& task : plan_.tree.tasks) {
    threads = std::max(threads, task.threads.size());
    layouts.push_back(&task.mm);
  }
  scratch_size_ = kMiB + threads * kPerThread;
  scratch_ = memory::find_hole(layouts, seed, scratch_size_ + memory::kVdsoParkingBytes);
  tasks_.front().caller =
      tracee::RemoteCaller::for_restore(tasks_.front().leader(), tracee::RemoteAddress{scratch_},
                                        scratch_size_, static_cast<unsigned>(threads));
}

void TreeBuilder::create_tasks() {
  Stopwatch stopwatch;
  const auto& images = plan_.tree.tasks;
  tasks_.resize(images.size());
  for (size_t i = 0; i < images.size(); ++i) tasks_[i].image = &images[i];
  tracee::SeedOptions options;
  options.set_tid = {images.front().pid};
  options.new_session = false;
  if (request_.sibling) options.clone_flags |= CLONE_PARENT;
  tasks_.front().threads.push_back(tracee::spawn_seed(options));
  gate_.admit(images.front().pid);
  fault_point("restore-root-created");
  place_scratch(maps_of(images.front().pid));
  for (const auto& step : plan_.births) {
    if (step.kind == tree::BirthStep::Kind::kFork) {
      fork_task(step.task);
    } else {
      Batch batch;
      batch.call(SYS_setsid, {});
      tasks_[step.task].run(batch, "setsid");
    }
  }
  statistics.set_forking_time(stopwatch.microseconds());
}

void TreeBuilder::fork_task(size_t index) {
  LiveTask& child = tasks_[index];
  LiveTask& parent = tasks_[child.image->parent];
  ErrorContext context{"creating pid {}", child.image->pid};
  Batch batch;
  clone_args arguments{};
  arguments.exit_signal = SIGCHLD;
  arguments.set_tid_size = 1;
  auto data = batch.put_object(arguments);
  batch.patch(data, offsetof(clone_args, set_tid), batch.put_object(child.image->pid));
  batch.call(SYS_clone3, {data, sizeof arguments});
  auto results = parent.run(batch, "clone3");
  child.threads.push_back(parent.caller->adopt(child.image->pid, results.new_tasks().at(0)));
  child.caller = parent.caller->for_forked_child(child.leader());
  gate_.admit(child.image->pid);
}

void TreeBuilder::set_groups() {
  for (const auto& step : plan_.groups) {
    Batch batch;
    batch.call(SYS_setpgid, {0, step.pgid});
    tasks_[step.task].run(batch, "setpgid");
  }
}

void TreeBuilder::build_memory() {
  uint64_t parking = scratch_ + scratch_size_;
  run_in_parallel(tasks_, for_each_task([&](LiveTask& task) {
                    return memory::clear_seed(task.image->mm, maps_of(task.image->pid), scratch_,
                                              scratch_size_, parking);
                  }),
                  "clearing the seed");
  auto pages_of = [&](const LiveTask& task) -> const images::PagemapChain& {
    return plan_.pages[static_cast<size_t>(&task - tasks_.data())];
  };
  run_in_parallel(tasks_, for_each_task([&](LiveTask& task) {
                    return memory::map_areas(task.image->mm, pages_of(task), *plan_.files);
                  }),
                  "mapping memory");
  fault_point("restore-mapped");
  fill_memory();
  run_in_parallel(tasks_, for_each_task([&](LiveTask& task) {
                    return memory::finish_address_space(task.image->mm, pages_of(task), *plan_.files);
                  }),
                  "finishing memory");
}

void TreeBuilder::fill_memory() {
  std::vector<std::vector<memory::FillBatch>> fills(tasks_.size());
  size_t rounds = 0;
  for (size_t i = 0; i < tasks_.size(); ++i) {
    if (tasks_[i].image->zombie()) continue;
    fills[i] = memory::fill_pages(tasks_[i].image->mm, plan_.pages[i]);
    rounds = std::max(rounds, fills[i].size());
  }
  uint64_t bytes = 0;
  for (size_t round = 0; round < rounds; ++round) {
    for (size_t i = 0; i < tasks_.size(); ++i) {
      if (round < fills[i].size()) tasks_[i].caller->start(tasks_[i].leader(), fills[i][round].batch);
    }
    for (size_t i = 0; i < tasks_.size(); ++i) {
      if (round >= fills[i].size()) continue;
      fills[i][round].check(tasks_[i].caller->finish(tasks_[i].leader()));
      for (const auto& [result, expected] : fills[i][round].expected) bytes += expected;
    }
  }
  statistics.set_pages_restored(bytes / kPageSize);
}

void TreeBuilder::register_lazy_memory() {
  if (!request_.hand_over) return;
  for (size_t i = 0; i < tasks_.size(); ++i) {
    if (tasks_[i].image->zombie()) continue;
    auto userfaultfd = memory::register_lazy_areas(*tasks_[i].caller, tasks_[i].leader(), tasks_[i].image->mm,
                                                   plan_.pages[i]);
    request_.hand_over(tasks_[i].image->pid, userfaultfd ? std::move(*userfaultfd) : Fd());
  }
}

void TreeBuilder::install_files() {
  plan_.files->open_all();
  run_in_parallel(tasks_, for_each_task([&](LiveTask& task) {
                    return plan_.files->install_batches(task.image->ids.files_id());
                  }),
                  "installing descriptors");
  run_in_parallel(tasks_, for_each_task([&](LiveTask& task) {
                    Batch batch;
                    auto ours = files::FileOpener::add_coordinator(batch);
                    auto directory = plan_.files->add_get(batch, ours, task.image->fs.cwd_id());
                    batch.call(SYS_fchdir, {directory});
                    batch.call(SYS_close, {directory});
                    batch.call(SYS_close, {ours});
                    if (task.image->fs.has_umask()) batch.call(SYS_umask, {task.image->fs.umask()});
                    return std::vector{std::move(batch)};
                  }),
                  "entering the working directory");
  run_in_parallel(tasks_, for_each_task([&](LiveTask& task) {
                    Batch batch;
                    plan_.files->add_finish_calls(task.image->ids.files_id(), batch);
                    return std::vector{std::move(batch)};
                  }),
                  "finishing descriptors");
  fault_point("restore-files");
}

void TreeBuilder::create_threads() {
  for (auto& task : tasks_) {
    if (task.image->threads.size() > 1) fork_threads(task);
  }
}

void TreeBuilder::fork_threads(LiveTask& task) {
  ErrorContext context{"threads of pid {}", task.image->pid};
  constexpr uint64_t kThreadFlags =
      CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
  constexpr size_t kThreadsPerBatch = 64;
  for (size_t done = 1; done < task.image->threads.size();) {
    Batch batch;
    for (size_t end = std::min(done + kThreadsPerBatch, task.image->threads.size()); done < end; ++done) {
      clone_args arguments{};
      arguments.flags = kThreadFlags;
      arguments.set_tid_size = 1;
      auto data = batch.put_object(arguments);
      batch.patch(data, offsetof(clone_args, set_tid), batch.put_object(task.image->threads[done].tid));
      batch.call(SYS_clone3, {data, sizeof arguments});
    }
    auto results = task.run(batch, "clone3");
    for (pid_t tid : results.new_tasks()) task.threads.push_back(task.caller->adopt(task.image->pid, tid));
  }
}

void TreeBuilder::end_zombies() {
  for (auto& task : tasks_) {
    if (task.image->zombie()) end_zombie(task);
  }
}

// A zombie dies as the dumped one did, and stays for its parent to be reaped.
void TreeBuilder::end_zombie(LiveTask& zombie) {
  int status = static_cast<int>(zombie.image->core().tc().exit_code());
  Batch batch;
  batch.call(SYS_prctl, {PR_SET_NAME, batch.put_string(zombie.image->core().tc().comm()), 0, 0, 0});
  batch.call(SYS_prlimit64, {0, RLIMIT_CORE, batch.put_object(rlimit{0, 0}), 0});
  if (WIFEXITED(status)) {
    batch.call(SYS_exit_group, {WEXITSTATUS(status)});
    zombie.caller->start(zombie.leader(), batch);
    siginfo_t info{};
    check(::waitid(P_PID, static_cast<id_t>(zombie.image->pid), &info, WEXITED | __WALL), "waitid({})",
          zombie.image->pid);
    zombie.leader().forget();
  } else {
    zombie.run(batch, "ending a zombie");
    zombie.leader().set_signal_mask(0);
    zombie.leader().detach(WTERMSIG(status));
    wait_until_zombie(zombie.image->pid);
  }
  zombie.threads.clear();
}

// The leaders come last, when the other threads rest: setting an action makes the kernel drop signals that
// any thread of the process has pending, the one that ends a batch too; and a thread's new credentials make
// all of the process undumpable, which the leader's last call mends.
void TreeBuilder::restore_state() {
  restore_state_of([](size_t thread) { return thread != 0; });
  restore_state_of([](size_t thread) { return thread == 0; });
  fault_point("restore-state");
}

void TreeBuilder::restore_state_of(const std::function<bool(size_t thread)>& wanted) {
  struct Running {
    LiveTask* task;
    tracee::Tracee* thread;
  };
  std::vector<Running> running;
  for (auto& task : tasks_) {
    for (size_t i = 0; i < task.threads.size(); ++i) {
      if (!wanted(i)) continue;
      const auto& image = task.image->threads[i];
      task.threads[i].suspend_seccomp();
      Batch batch;
      for (auto& part : plan_.parts) part->restore({task.image->pid, image.tid, i == 0, image.core}, batch);
      // A change of credentials makes a task undumpable, so this follows them.
      if (i == 0 && task.image->mm.has_dumpable() && task.image->mm.dumpable() <= 1) {
        batch.call(SYS_prctl, {PR_SET_DUMPABLE, task.image->mm.dumpable(), 0, 0, 0});
      }
      task.caller->start(task.threads[i], batch);
      running.push_back({&task, &task.threads[i]});
    }
  }
  for (auto& [task, thread] : running)
    task->caller->finish(*thread).check_all("restoring the state of a thread");
}

void TreeBuilder::set_registers() {
  for (auto& task : tasks_) {
    // The leader is last, with the call that unmaps the scratch.
    for (size_t i = task.threads.size(); i-- > 0;) {
      const auto& core = task.image->threads[i].core;
      tracee::Tracee& thread = task.threads[i];
      auto xstate = thread.xstate();
      task::decode_xstate(core.thread_info().fpregs(), xstate);
      auto registers = task::decode_registers(core.thread_info().gpregs());
      uint64_t mask =
          i == 0 && core.tc().has_blk_sigset() ? core.tc().blk_sigset() : core.thread_core().blk_sigset();
      if (i == 0) {
        task.caller->unmap_scratch_and_leave(thread, registers, mask);
      } else {
        task.caller->leave(thread, registers, mask);
      }
      thread.set_xstate(xstate);
    }
  }
}

void TreeBuilder::release(bool stopped) {
  request_.hooks.run(kinds::Stage::kPreResume, root());
  for (auto& task : tasks_) {
    if (!task.threads.empty() && (stopped || task.image->stopped())) task.enter_group_stop();
  }
  gate_.hold();
  for (auto& task : tasks_) {
    for (auto& thread : task.threads) {
      thread.set_options(0);
      thread.detach();
    }
  }
  fault_point("restore-detached");
  gate_.release();
  released_ = true;
  log::info("restored {} processes, root {}", tasks_.size(), root());
  request_.hooks.run(kinds::Stage::kPostResume, root());
}

void TreeBuilder::kill_all() noexcept {
  if (released_) return;
  for (auto& task : tasks_) {
    for (auto& thread : task.threads) thread.kill();
  }
  // Children before their parents, and a leader last: it cannot be waited for while dead threads that we
  // trace are not.
  for (size_t i = tasks_.size(); i-- > 0;) {
    auto& threads = tasks_[i].threads;
    for (size_t t = threads.size(); t-- > 0;) wait_for_death(threads[t].tid());
  }
}

}  // namespace godwit::restore
