#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cstdio>
#include <optional>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/commands/background.h"
#include "engine/commands/command_setup.h"
#include "engine/commands/commands.h"
#include "engine/commands/page_destination.h"
#include "engine/images/image_directory.h"
#include "engine/memory/lazy_handover.h"
#include "lazypages/daemon.h"
#include "lazypages/lazy_images.h"

namespace godwit::commands {
namespace {

// Readable when somebody asks us to end; from now on these signals do nothing else.
Fd ask_for_end_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  godwit::check(::sigprocmask(SIG_BLOCK, &signals, nullptr), "sigprocmask");
  return Fd(godwit::check(::signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK), "signalfd"));
}

// Connected before the restore begins, so that what is wrong with the connection stops the restore, and a
// restore that fails ends the connection, which lets the source go on.
std::optional<pageserver::LazyClient> connect_source(const options::PageServerOptions& options) {
  if (!options.enabled) return std::nullopt;
  auto peer = peer_options(options);
  auto client = pageserver::LazyClient(pageserver::connect(peer));
  log::info("pages come from {}", pageserver::endpoint_text(peer.address, peer.port));
  return client;
}

void report(const options::LazyPagesOptions& options, const lazypages::Statistics& statistics) {
  if (!options.display_stats) return;
  std::string text = lazypages::describe(statistics);
  // A daemon's standard output leads nowhere.
  if (options.daemon) log::info("{}", text);
  std::fputs(text.c_str(), stdout);
}

}  // namespace

int lazy_pages(const options::LazyPagesOptions& options) {
  std::optional<Background> background;
  if (options.daemon) background = Background::enter();
  auto guardian = lazypages::Guardian::start(options.daemon);
  Fd end_signals = ask_for_end_signals();
  auto images = images::ImageDirectory::open(options.common.images_dir);
  uint64_t missing = lazypages::count_missing_pages(images);
  if (missing == 0) log::info("the images hold every page: there is nothing to bring");
  if (missing != 0 && !options.page_server.enabled) {
    throw Error("{} pages are in no image: --page-server --address --port is needed", missing);
  }
  auto source = connect_source(options.page_server);
  memory::LazyHandoverListener listener(".");
  write_pidfile(options.common.pidfile, ::getpid());
  signal_ready(options.page_server.status_fd);
  if (background) background->ready();

  lazypages::DaemonSettings settings{images, guardian, end_signals.get(), std::nullopt};
  if (options.timeout_s) settings.patience = std::chrono::seconds(*options.timeout_s);
  lazypages::Outcome outcome = lazypages::Daemon(settings, std::move(source)).serve(listener);
  report(options, outcome.statistics);
  if (!outcome.complete) {
    throw Error("{}: {} pages did not come, and the tasks that miss them are ended", outcome.reason,
                outcome.missing_pages);
  }
  log::info("all pages are there: {} in {} requests", outcome.statistics.pages(),
            outcome.statistics.requests);
  return 0;
}

}  // namespace godwit::commands
