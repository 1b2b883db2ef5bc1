#include "migrate/lazy_fetch.h"

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/memory/lazy_handover.h"
#include "lazypages/daemon.h"

namespace godwit::migrate {

void fetch_lazily(std::unique_ptr<tls::Stream> stream, const std::string& move_directory,
                  const std::function<void()>& ready) {
  auto images = images::ImageDirectory::open(move_directory + "/final");
  auto guardian = lazypages::Guardian::start(false);
  memory::LazyHandoverListener listener(move_directory);
  ready();
  pageserver::LazyClient client({std::move(stream), pageserver::Layout::kLong});
  lazypages::Daemon daemon({.images = images, .guardian = guardian}, std::move(client));
  auto outcome = daemon.serve(listener);
  if (!outcome.complete) {
    throw Error("post-copy: {}; {} pages are missing", outcome.reason, outcome.missing_pages);
  }
  guardian.finish();
  log::info("post-copy: every page is here");
}

}  // namespace godwit::migrate
