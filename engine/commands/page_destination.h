#pragma once

#include <memory>

#include "engine/images/image_directory.h"
#include "engine/kinds/page_sink.h"
#include "engine/options/commands_options.h"
#include "pageserver/connect.h"

namespace godwit::commands {

// The page server that the options name, as the page-server library wants it.
pageserver::PeerOptions peer_options(const options::PageServerOptions& options);

// Where a dump's pages go: to the page server if --page-server was given, else into the image directory.
// `reserve` are sizes for which file space is allocated now, before anything is frozen. `images` outlives it.
std::unique_ptr<kinds::PageSink> make_page_sink(const options::PageServerOptions& options,
                                                images::ImageDirectory& images,
                                                const std::vector<uint64_t>& reserve);

}  // namespace godwit::commands
