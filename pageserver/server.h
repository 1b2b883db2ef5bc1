#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "engine/kinds/page_sink.h"
#include "pageserver/command_reader.h"
#include "tls/stream.h"

namespace godwit::pageserver {

// Where received pages go.
struct Store {
  // A fresh sink for one connection. Destroyed without finish() when the connection fails: it then leaves
  // nothing behind that looks complete.
  std::function<std::unique_ptr<kinds::PageSink>()> make_sink;
  // Whether the parent directory has an image of this id.
  std::function<bool(kinds::PageImageId)> has_parent;
};

struct ReceiveReport {
  uint64_t images = 0;
  uint64_t pages = 0;  // whose contents came
  uint64_t pages_in_parent = 0;
  uint64_t pages_lazy = 0;
};

// Serves one client that sends pages, from its first header to its CLOSE, which is answered after finish() of
// the sink. Throws when the client is not one of ours, breaks off, or what it sends cannot be stored.
ReceiveReport receive_pages(tls::Stream& stream, const Store& store, PatienceLimits limits = {});

}  // namespace godwit::pageserver
