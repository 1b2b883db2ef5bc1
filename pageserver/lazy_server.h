#pragma once

#include <cstdint>
#include <string>

#include "engine/kinds/page_source.h"
#include "pageserver/command_reader.h"
#include "tls/stream.h"

namespace godwit::pageserver {

enum class LazyEnd {
  kClosed,  // CLOSE or FORCE_CLOSE: the client has what it needs; a lazy dump may kill its tasks
  kLost,    // the connection ended in any other way; a lazy dump resumes its tasks
};

struct LazyReport {
  LazyEnd end = LazyEnd::kLost;
  uint64_t requests = 0;
  uint64_t pages = 0;
  std::string reason;  // of kLost
};

// Serves one lazy-pages daemon from `source` until it ends. A request for pages that the source does not
// have, or anything else that is not understood, ends the connection (as a stock source does) and is a kLost.
// Does not throw for what the client or the network does.
LazyReport serve_lazily(tls::Stream& stream, kinds::PageSource& source, PatienceLimits limits = {});

}  // namespace godwit::pageserver
