#include "engine/restore/restore.h"

#include <sys/wait.h>

#include <cstdio>
#include <optional>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/commands/action_script.h"
#include "engine/commands/command_setup.h"
#include "engine/commands/commands.h"
#include "engine/images/stats.h"
#include "engine/memory/lazy_handover.h"

namespace godwit::commands {
namespace {

void report(const options::RestoreOptions& options, const pb::restore_stats_entry& statistics) {
  auto work = images::ImageDirectory::open(".");
  images::write_restore_stats(work, statistics);
  if (!options.display_stats) return;
  std::printf("Displaying restore stats:\n");
  std::printf("Pages compared: %lu\n", statistics.pages_compared());
  std::printf("Pages skipped COW: %lu\n", statistics.pages_skipped_cow());
  std::printf("Pages restored: %lu\n", statistics.pages_restored());
  std::printf("Restore time: %u us\n", statistics.restore_time());
  std::printf("Forking time: %u us\n", statistics.forking_time());
}

// Waits for the root task, as its parent, and ends as it ended.
int wait_for_root(pid_t root) {
  int status = 0;
  for (;;) {
    pid_t ended = ::waitpid(-1, &status, __WALL);
    if (ended == root) break;
    if (ended < 0 && errno != EINTR) godwit::check(ended, "waitpid({})", root);
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

int restore(const options::RestoreOptions& options) {
  auto images = images::ImageDirectory::open(options.common.images_dir);
  ActionScripts hooks(options.common, images.fd());
  std::optional<memory::LazyHandoverClient> lazy;
  restore::RestoreRequest request{.images = images, .hooks = hooks};
  request.policy = {.tcp_close = options.tcp_close, .shell_job = options.shell_job};
  request.sibling = options.sibling;
  if (options.lazy_pages) {
    lazy.emplace(memory::LazyHandoverClient::connect("."));
    request.hand_over = [&lazy](pid_t pid, Fd userfaultfd) { lazy->send(pid, std::move(userfaultfd)); };
  }
  request.tree_is_complete = [&](pid_t root) {
    if (lazy) lazy->finish();
    write_pidfile(options.common.pidfile, root);
  };
  auto tree = restore::restore_tree(request);
  if (options.tree && *options.tree != tree.root()) {
    throw Error("the images are of pid {}, not of pid {} (-t)", tree.root(), *options.tree);
  }
  tree.release(options.leave_stopped);
  report(options, tree.statistics());
  log::info("Restore finished successfully. Tasks resumed.");
  return options.detached ? 0 : wait_for_root(tree.root());
}

}  // namespace godwit::commands
