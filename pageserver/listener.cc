#include "pageserver/listener.h"

#include <fcntl.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>

#include "pageserver/connect.h"
#include "pageserver/socket_options.h"

namespace godwit::pageserver {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

tcp::endpoint endpoint_to_listen_on(asio::io_context& context, const std::string& address, uint16_t port) {
  if (address.empty()) return tcp::endpoint(tcp::v6(), port);
  boost::system::error_code code;
  tcp::resolver resolver(context);
  auto results = resolver.resolve(address, std::to_string(port),
                                  tcp::resolver::passive | tcp::resolver::numeric_service, code);
  if (code || results.empty()) throw Error("resolve {}: {}", address, code.message());
  return results.begin()->endpoint();
}

std::string text_of(const tcp::endpoint& endpoint) {
  asio::ip::address address = endpoint.address();
  // Clients of a socket for both families: their IPv4 address is what operators know.
  if (address.is_v6() && address.to_v6().is_v4_mapped()) {
    address = asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
  }
  return endpoint_text(address.to_string(), endpoint.port());
}

}  // namespace

struct Listener::Acceptor {
  asio::io_context context{1};
  tcp::acceptor acceptor{context};
  bool stopped = false;  // of the accepting thread; stop() reaches it through the context

  void open(const tcp::endpoint& wanted, bool any) {
    tcp::endpoint endpoint = wanted;
    boost::system::error_code code;
    acceptor.open(endpoint.protocol(), code);
    if (code == asio::error::address_family_not_supported && any) {  // a host without IPv6
      endpoint = tcp::endpoint(tcp::v4(), wanted.port());
      acceptor.open(endpoint.protocol(), code);
    }
    check_code(code);
    acceptor.set_option(tcp::acceptor::reuse_address(true), code);
    check_code(code);
    if (any && endpoint.protocol() == tcp::v6()) acceptor.set_option(asio::ip::v6_only(false), code);
    check_code(code);
    acceptor.bind(endpoint, code);
    check_code(code);
    acceptor.listen(asio::socket_base::max_listen_connections, code);
    check_code(code);
  }

  static void check_code(boost::system::error_code code) {
    if (code) throw Error("{}", code.message());
  }
};

Listener::Listener(const std::string& address, uint16_t port) : acceptor_(std::make_unique<Acceptor>()) {
  ErrorContext context{"listen on {}", endpoint_text(address.empty() ? "*" : address, port)};
  acceptor_->open(endpoint_to_listen_on(acceptor_->context, address, port), address.empty());
}

Listener::~Listener() = default;

uint16_t Listener::port() const {
  return acceptor_->acceptor.local_endpoint().port();
}

int Listener::fd() const {
  return acceptor_->acceptor.native_handle();
}

std::optional<tls::Connection> Listener::accept(std::optional<std::chrono::milliseconds> timeout) {
  Acceptor& state = *acceptor_;
  if (state.stopped) return std::nullopt;
  tcp::socket socket(state.context);
  tcp::endpoint client;
  boost::system::error_code code = asio::error::would_block;
  state.acceptor.async_accept(socket, client, [&](boost::system::error_code result) { code = result; });
  state.context.restart();
  if (timeout) {
    state.context.run_for(*timeout);
  } else {
    state.context.run();
  }
  if (code == asio::error::would_block) {  // timed out: take the request back before its variables go
    state.acceptor.cancel();
    state.context.restart();
    state.context.run();
    if (code == asio::error::operation_aborted) return std::nullopt;
  }
  if (state.stopped || code == asio::error::operation_aborted) return std::nullopt;
  if (code) throw Error("accept: {}", code.message());
  tune_socket(socket.native_handle());
  return tls::Connection{Fd(socket.release()), text_of(client)};
}

void Listener::stop() {
  asio::post(acceptor_->context, [this] {
    acceptor_->stopped = true;
    acceptor_->acceptor.cancel();
  });
}

tls::Connection adopt_connection(int socket) {
  Fd ours(check(::fcntl(socket, F_DUPFD_CLOEXEC, 0), "--ps-socket {}", socket));
  tune_socket(ours.get());
  return {std::move(ours), fmt::format("socket {}", socket), true};
}

}  // namespace godwit::pageserver
