#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "engine/images/image_directory.h"
#include "engine/memory/lazy_handover.h"
#include "lazypages/guardian.h"
#include "lazypages/statistics.h"
#include "pageserver/lazy_client.h"

namespace godwit::lazypages {

// What a daemon works with. The references outlive it.
struct DaemonSettings {
  const images::ImageDirectory& images;
  Guardian& guardian;
  // Readable when the daemon is to end at once; -1: never.
  int stop_fd = -1;
  // How long the tasks may go on, and wait where they must, after the connection was lost; empty: as long as
  // they like.
  std::optional<std::chrono::seconds> patience{};
};

struct Outcome {
  bool complete = false;       // every page that is still wanted has come, and the source knows it
  uint64_t missing_pages = 0;  // of tasks that were given up
  std::string reason;          // of an incomplete one
  Statistics statistics;
};

// Serves the tasks of one restore until nothing is missing: faults first, then what is likely next, then all
// the rest. One thread, which waits in epoll.
//
// A lost connection is reported and not retried, as the source lets its tasks run again when it loses us: the
// tasks here go on until they need a page that is missing, and wait there. When the patience ends, or the
// operator ends the daemon, they are given up, never left to read zeros: killed by the guardian, or, children
// that they forked, with their missing pages poisoned (SIGBUS).
class Daemon {
 public:
  // Without a source, only restores without missing pages can be served.
  Daemon(const DaemonSettings& settings, std::optional<pageserver::LazyClient> source);
  ~Daemon();

  // Takes the tasks of one restore from there and serves them. When it throws, or returns an incomplete
  // outcome, the guardian must not be told finish(). Throws Error when the restore fails, FormatError for
  // damaged images, SystemError.
  Outcome serve(memory::LazyHandoverListener& listener);

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace godwit::lazypages
