#include "engine/dump/dump.h"

#include <cstdio>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/commands/action_script.h"
#include "engine/commands/command_setup.h"
#include "engine/commands/commands.h"
#include "engine/commands/page_destination.h"
#include "engine/images/stats.h"
#include "engine/kernel/features.h"
#include "engine/memory/make_tracker.h"
#include "pageserver/connections.h"
#include "pageserver/lazy_server.h"
#include "pageserver/listener.h"

namespace godwit::commands {
namespace {

void report(const options::PreDumpOptions& options, const pb::dump_stats_entry& statistics) {
  auto work = images::ImageDirectory::open(".");
  images::write_dump_stats(work, statistics);
  if (!options.display_stats) return;
  std::printf("Displaying dump stats:\n");
  std::printf("Freezing time: %u us\n", statistics.freezing_time());
  std::printf("Frozen time: %u us\n", statistics.frozen_time());
  std::printf("Memory dump time: %u us\n", statistics.memdump_time());
  std::printf("Memory write time: %u us\n", statistics.memwrite_time());
  std::printf("Memory pages scanned: %lu\n", statistics.pages_scanned());
  std::printf("Memory pages skipped from parent: %lu\n", statistics.pages_skipped_parent());
  std::printf("Memory pages written: %lu\n", statistics.pages_written());
  std::printf("Lazy memory pages: %lu\n", statistics.pages_lazy());
}

// A dump with a parent goes on where the command that wrote the parent stopped; one that tracks makes a
// beginning.
std::unique_ptr<memory::DirtyTracker> make_tracker(bool track, const images::ImageDirectory& images) {
  auto parent = images.open_parent();
  bool can_track = kernel::available_dirty_tracking() != kernel::DirtyTracking::kNone;
  if (!track && (!parent || !can_track)) return memory::make_untracked();
  return memory::make_command_tracker(parent);
}

// Images that build on a parent need only what changed, which nobody knows before the freeze.
std::vector<uint64_t> sizes_to_reserve(const options::PreDumpOptions& options) {
  if (options.prev_images_dir || options.page_server.enabled) return {};
  return dump::estimate_memory(options.tree);
}

dump::DumpRequest make_request(const options::PreDumpOptions& options, images::ImageDirectory& images,
                               kinds::PageSink& pages, memory::DirtyTracker& tracker,
                               kinds::StageHooks& hooks) {
  return {.root = options.tree,
          .images = images,
          .pages = pages,
          .tracker = tracker,
          .hooks = hooks,
          .policy = {.tcp_close = false, .shell_job = options.shell_job},
          .more_rounds = options.track_mem,
          .freeze_timeout = std::chrono::seconds(options.timeout_s)};
}

// Serves the frozen tree's memory to one lazy-pages daemon. The tree belongs to the other side once that has
// all of it.
void serve_memory(const options::DumpOptions& options, pageserver::Listener& listener,
                  std::shared_ptr<const tls::Credentials> credentials, dump::DumpedTree& tree) {
  auto source = tree.page_source();
  log::info("waiting for a lazy-pages daemon on port {}", listener.port());
  signal_ready(options.page_server.status_fd);
  auto connection = listener.accept();
  if (!connection) throw Error("the lazy-pages daemon did not connect");
  auto stream = pageserver::accept_stream(std::move(*connection), std::move(credentials));
  auto outcome = pageserver::serve_lazily(*stream, *source);
  if (outcome.end == pageserver::LazyEnd::kLost) {
    tree.resume();
    throw Error(
        "the lazy-pages daemon was lost: {}; the tasks run on here, and what was restored there must end",
        outcome.reason);
  }
  log::info("served {} pages in {} requests", outcome.pages, outcome.requests);
  tree.kill();
}

void finish(const options::DumpOptions& options, dump::DumpedTree& tree) {
  if (options.leave_running) {
    tree.resume();
  } else if (options.leave_stopped) {
    tree.leave_stopped();
  } else {
    tree.kill();
  }
}

}  // namespace

int dump(const options::DumpOptions& options) {
  auto images = images::ImageDirectory::open(options.common.images_dir);
  images.start_dump(options.prev_images_dir);
  ActionScripts hooks(options.common, images.fd());
  auto tracker = make_tracker(options.track_mem, images);
  // Everything that can fail for reasons of its own comes before the freeze: connections, certificates,
  // ports.
  auto to_server = options.page_server;
  if (options.lazy_pages) to_server.enabled = false;
  auto pages = make_page_sink(to_server, images,
                              options.lazy_pages ? std::vector<uint64_t>{} : sizes_to_reserve(options));
  std::unique_ptr<pageserver::Listener> listener;
  std::shared_ptr<const tls::Credentials> credentials;
  if (options.lazy_pages) {
    auto peer = peer_options(options.page_server);
    if (peer.tls) credentials = std::make_shared<tls::Credentials>(peer.credentials);
    listener = std::make_unique<pageserver::Listener>(options.page_server.address.value_or(""),
                                                      options.page_server.port);
  }
  auto request = make_request(options, images, *pages, *tracker, hooks);
  request.policy.tcp_close = options.tcp_close;
  request.lazy = options.lazy_pages;
  auto tree = dump::dump_tree(request);
  report(options, tree.statistics);
  write_pidfile(options.common.pidfile, options.tree);
  if (options.lazy_pages) {
    serve_memory(options, *listener, credentials, tree);
  } else {
    finish(options, tree);
  }
  if (options.track_mem) tracker->leave_for_next_command(images);
  log::info("Dumping finished successfully");
  return 0;
}

int pre_dump(const options::PreDumpOptions& options) {
  auto images = images::ImageDirectory::open(options.common.images_dir);
  images.start_dump(options.prev_images_dir);
  ActionScripts hooks(options.common, images.fd());
  auto tracker = make_tracker(true, images);
  auto pages = make_page_sink(options.page_server, images, sizes_to_reserve(options));
  auto request = make_request(options, images, *pages, *tracker, hooks);
  request.more_rounds = true;
  report(options, dump::pre_dump_tree(request));
  tracker->leave_for_next_command(images);
  log::info("Pre-dumping finished successfully");
  return 0;
}

}  // namespace godwit::commands
