#include <unistd.h>

#include <cstdio>
#include <optional>

#include "engine/base/log.h"
#include "engine/commands/background.h"
#include "engine/commands/command_setup.h"
#include "engine/commands/commands.h"
#include "engine/images/image_directory.h"
#include "pageserver/connections.h"
#include "pageserver/directory_store.h"
#include "pageserver/image_source.h"
#include "pageserver/lazy_server.h"
#include "pageserver/server.h"

namespace godwit::commands {
namespace {

std::shared_ptr<const tls::Credentials> load_credentials(const options::TlsOptions& options) {
  if (!options.enabled) return nullptr;
  tls::CredentialFiles files;
  files.ca = options.ca_certificate;
  files.crl = options.revocations;
  files.certificate = options.certificate;
  files.key = options.key;
  return std::make_shared<const tls::Credentials>(files);
}

void receive(tls::Stream& stream, const std::string& images_dir) {
  pageserver::ReceiveReport report =
      pageserver::receive_pages(stream, pageserver::directory_store(images_dir));
  log::info("page server: stored {} images: {} pages, {} in the parent, {} lazy", report.images, report.pages,
            report.pages_in_parent, report.pages_lazy);
}

void serve(tls::Stream& stream, const std::string& images_dir) {
  images::ImageDirectory directory = images::ImageDirectory::open(images_dir);
  pageserver::ImageSource source(directory);
  pageserver::LazyReport report = pageserver::serve_lazily(stream, source);
  log::info("page server: served {} pages in {} requests", report.pages, report.requests);
  if (report.end == pageserver::LazyEnd::kLost) throw Error("{}", report.reason);
}

}  // namespace

// Like criu's, it takes one connection and ends with how that went.
int page_server(const options::PageServerCommandOptions& options) {
  std::optional<Background> background;
  if (options.daemon) background = Background::enter();
  const options::PageServerOptions& network = options.page_server;
  auto credentials = load_credentials(network.tls);
  std::optional<pageserver::Listener> listener(std::in_place, network.address.value_or(""), network.port);
  if (network.port == 0) {
    std::printf("page server: port %u\n", listener->port());
    std::fflush(stdout);
  }
  log::info("page server: listening on {}, port {}{}", network.address.value_or("all addresses"),
            listener->port(), credentials ? ", TLS" : "");
  write_pidfile(options.common.pidfile, ::getpid());
  signal_ready(network.status_fd);
  if (background) background->ready();

  auto connection = listener->accept();
  if (!connection) throw Error("page server: no connection");
  listener.reset();  // nobody may believe that there is room for a second one
  log::info("page server: connection from {}", connection->peer);
  auto stream = pageserver::accept_stream(std::move(*connection), std::move(credentials));
  if (options.lazy_pages) {
    serve(*stream, options.common.images_dir);
  } else {
    receive(*stream, options.common.images_dir);
  }
  return 0;
}

}  // namespace godwit::commands
