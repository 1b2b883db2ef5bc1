#pragma once

#include <functional>
#include <memory>
#include <string>

#include "tls/stream.h"

namespace godwit::migrate {

// Fetches the pages of a post-copy over `stream` until the tree that is restored from the final dump in
// `move_directory` has all of them; then tells the source (CLOSE). `ready` is called when the restore may
// hand its userfaultfds over. Throws when the source or the restore is lost.
void fetch_lazily(std::unique_ptr<tls::Stream> stream, const std::string& move_directory,
                  const std::function<void()>& ready);

}  // namespace godwit::migrate
