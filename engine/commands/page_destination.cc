#include "engine/commands/page_destination.h"

#include "engine/kinds/directory_page_sink.h"
#include "pageserver/client.h"

namespace godwit::commands {
namespace {

pageserver::LayoutChoice layout_choice(options::PageServerLayout layout) {
  switch (layout) {
    case options::PageServerLayout::kShort:
      return pageserver::LayoutChoice::kShort;
    case options::PageServerLayout::kLong:
      return pageserver::LayoutChoice::kLong;
    case options::PageServerLayout::kProbe:
      break;
  }
  return pageserver::LayoutChoice::kProbe;
}

}  // namespace

pageserver::PeerOptions peer_options(const options::PageServerOptions& options) {
  pageserver::PeerOptions peer;
  peer.address = options.address.value_or("127.0.0.1");
  peer.port = options.port;
  peer.tls = options.tls.enabled;
  peer.credentials = {.ca = options.tls.ca_certificate,
                      .crl = options.tls.revocations,
                      .certificate = options.tls.certificate,
                      .key = options.tls.key};
  peer.verify_name = options.tls.verify_name;
  peer.layout = layout_choice(options.layout);
  return peer;
}

std::unique_ptr<kinds::PageSink> make_page_sink(const options::PageServerOptions& options,
                                                images::ImageDirectory& images,
                                                const std::vector<uint64_t>& reserve) {
  if (options.enabled)
    return std::make_unique<pageserver::Client>(pageserver::connect(peer_options(options)));
  auto sink = std::make_unique<kinds::DirectoryPageSink>(images);
  try {
    for (uint64_t bytes : reserve) sink->reserve(bytes);
  } catch (...) {
    images.remove_created();
    throw;
  }
  return sink;
}

}  // namespace godwit::commands
