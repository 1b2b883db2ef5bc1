#include "pageserver/connect.h"

#include <array>
#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "pageserver/listener.h"
#include "pageserver/socket_options.h"
#include "tls/plain_stream.h"
#include "tls/session.h"

namespace godwit::pageserver {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

// Any id will do: only the layout of the server is of interest, not its answer.
constexpr kinds::PageImageId kProbeId{kinds::PageImageId::Type::kTask, 1};

// A server that waits for the rest of a long header answers as soon as it has it; this only catches a dead
// one.
constexpr std::chrono::milliseconds kAnswerTimeout{60'000};

tcp::resolver::results_type resolve(asio::io_context& context, const std::string& address, uint16_t port) {
  boost::system::error_code code;
  tcp::resolver resolver(context);
  auto results = resolver.resolve(address, std::to_string(port), tcp::resolver::numeric_service, code);
  if (code) throw Error("resolve {}: {}", address, code.message());
  return results;
}

tls::Connection open_connection(const PeerOptions& options) {
  if (options.socket >= 0) return adopt_connection(options.socket);
  return connect_tcp(options.address, options.port, options.connect_timeout);
}

std::unique_ptr<tls::Stream> open_stream(const PeerOptions& options) {
  if (!options.tls) return std::make_unique<tls::PlainStream>(open_connection(options));
  auto credentials = std::make_shared<const tls::Credentials>(options.credentials);
  tls::SessionOptions session;
  session.role = tls::Role::kClient;
  if (options.verify_name) session.server_name = options.address;
  session.handshake_timeout = options.connect_timeout;
  return std::make_unique<tls::Session>(open_connection(options), std::move(credentials), session);
}

std::string name_of(const PeerOptions& options) {
  if (options.socket >= 0) return fmt::format("socket {}", options.socket);
  return endpoint_text(options.address, options.port);
}

}  // namespace

LayoutChoice parse_layout_choice(const std::string& word) {
  if (word == "probe") return LayoutChoice::kProbe;
  if (word == "short") return LayoutChoice::kShort;
  if (word == "long") return LayoutChoice::kLong;
  throw UsageError("--ps-layout {}: must be probe, short or long", word);
}

std::string endpoint_text(const std::string& address, uint16_t port) {
  if (address.find(':') != std::string::npos) return fmt::format("[{}]:{}", address, port);
  return fmt::format("{}:{}", address, port);
}

tls::Connection connect_tcp(const std::string& address, uint16_t port, std::chrono::milliseconds timeout) {
  asio::io_context context(1);
  auto endpoints = resolve(context, address, port);
  tcp::socket socket(context);
  boost::system::error_code code = asio::error::timed_out;
  asio::async_connect(socket, endpoints,
                      [&](boost::system::error_code result, const tcp::endpoint&) { code = result; });
  context.run_for(timeout);
  if (code) throw Error("{}", code.message());
  tune_socket(socket.native_handle());
  return {Fd(socket.release()), endpoint_text(address, port)};
}

Layout probe_layout(tls::Stream& stream, std::chrono::milliseconds timeout) {
  Header question;
  question.command = Command::kParent;
  question.dst_id = encode_image_id(kProbeId);
  stream.write(EncodedHeader(question, Layout::kShort).bytes());
  std::array<std::byte, sizeof(int32_t)> answer;
  Layout layout = Layout::kShort;
  auto count = stream.read_within(answer, timeout);
  if (!count) {
    layout = Layout::kLong;
    stream.write(std::as_bytes(std::span(&question.dst_id, 1)));
    count = stream.read_within(answer, kAnswerTimeout);
  }
  if (!count) throw tls::TimeoutError("no answer for {} ms", kAnswerTimeout.count());
  if (*count == 0) throw Error("the server ended the connection without an answer: is it a page server?");
  if (*count < answer.size()) stream.read_exactly(std::span(answer).subspan(*count), "answer");
  return layout;
}

Peer connect(const PeerOptions& options) {
  ErrorContext context{"page server {}", name_of(options)};
  Peer peer{open_stream(options), Layout::kLong};
  if (options.layout == LayoutChoice::kShort) {
    peer.layout = Layout::kShort;
  } else if (options.layout == LayoutChoice::kProbe && !options.tls) {
    peer.layout = probe_layout(*peer.stream, options.probe_timeout);
  }
  return peer;
}

}  // namespace godwit::pageserver
