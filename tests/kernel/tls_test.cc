#include <doctest/doctest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <future>
#include <random>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/units.h"
#include "tests/support/certificates.h"
#include "tests/support/temporary_directory.h"
#include "tls/plain_stream.h"
#include "tls/session.h"

namespace godwit::tls {
namespace {

using Shared = std::shared_ptr<const Credentials>;

// Certificates of all tests here, made once.
struct Pki {
  test::TemporaryDirectory directory;
  test::CertificateAuthority authority{directory.path(), "ca"};
  test::CertificateAuthority stranger{directory.path(), "other-ca"};
  test::CertificateFiles host =
      authority.issue({.name = "host", .dns_names = {"host.example"}, .ip_addresses = {"127.0.0.1", "::1"}});
  test::CertificateFiles expired =
      authority.issue({.name = "old", .ip_addresses = {"127.0.0.1"}, .expired = true});
  test::CertificateFiles revoked = authority.issue({.name = "revoked", .ip_addresses = {"127.0.0.1"}});
  test::CertificateFiles foreign = stranger.issue({.name = "foreign", .ip_addresses = {"127.0.0.1"}});
  std::string revocations = authority.revoke(revoked);

  CredentialFiles files(const test::CertificateFiles& own) const {
    return {
        .ca = authority.certificate(), .crl = revocations, .certificate = own.certificate, .key = own.key};
  }
  Shared credentials(const test::CertificateFiles& own) const {
    return std::make_shared<const Credentials>(files(own));
  }
};

const Pki& pki() {
  static const Pki instance;
  return instance;
}

Connection connection_of(Fd socket, const char* peer) {
  return {std::move(socket), peer};
}

SessionOptions client_options() {
  return {.role = Role::kClient, .server_name = "127.0.0.1"};
}
SessionOptions server_options() {
  return {.role = Role::kServer};
}

// What both sides said about a handshake, and the first word of the client to the server; empty: went well.
struct Outcome {
  std::string client, server;
};

std::string failure_of(auto&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

Outcome shake_hands(Shared client, Shared server, const SessionOptions& options = client_options()) {
  SocketPair pair = SocketPair::create(SOCK_STREAM);
  auto served = std::async(std::launch::async, [&] {
    return failure_of([&] {
      Session session(connection_of(std::move(pair.second), "client"), server, server_options());
      std::byte word;
      session.read_exactly({&word, 1}, "word");
      session.write({&word, 1});
      session.end(Stream::Milliseconds{5000});
    });
  });
  Outcome outcome;
  outcome.client = failure_of([&] {
    Session session(connection_of(std::move(pair.first), "server"), client, options);
    std::byte word{42};
    session.write({&word, 1});
    // TLS 1.3: a client hears only now that the server did not like its certificate.
    session.read_exactly({&word, 1}, "word");
    session.end(Stream::Milliseconds{5000});
  });
  outcome.server = served.get();
  return outcome;
}

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("two hosts of one authority trust each other, by address, by name, or by any name") {
  Shared host = pki().credentials(pki().host);
  for (const char* name : {"127.0.0.1", "::1", "host.example", ""}) {
    CAPTURE(name);
    SessionOptions options = client_options();
    options.server_name = name;
    Outcome outcome = shake_hands(host, host, options);
    CHECK(outcome.client == "");
    CHECK(outcome.server == "");
  }
}

TEST_CASE("a server of another name is refused, unless names do not matter") {
  Shared host = pki().credentials(pki().host);
  SessionOptions options = client_options();
  options.server_name = "elsewhere.example";
  Outcome outcome = shake_hands(host, host, options);
  CHECK(contains(outcome.client, "does not match the expected"));
  CHECK(contains(outcome.client, "(it must be \"elsewhere.example\")"));
  CHECK(contains(outcome.server, "the peer ended the TLS connection"));
}

TEST_CASE("a server that must not be trusted is refused with the reason") {
  Shared host = pki().credentials(pki().host);
  Outcome foreign = shake_hands(host, pki().credentials(pki().foreign));
  CHECK(contains(foreign.client, "the peer's certificate is not accepted"));
  CHECK(contains(foreign.client, "issuer is unknown"));
  CHECK(contains(foreign.server, "CA is unknown"));
  Outcome expired = shake_hands(host, pki().credentials(pki().expired));
  CHECK(contains(expired.client, "expired"));
  CHECK(contains(expired.server, "expired"));
  Outcome revoked = shake_hands(host, pki().credentials(pki().revoked));
  CHECK(contains(revoked.client, "revoked"));
  CHECK(contains(revoked.server, "Certificate was revoked"));
}

TEST_CASE("a client that must not be trusted is refused, and hears why") {
  Shared host = pki().credentials(pki().host);
  CHECK(contains(shake_hands(pki().credentials(pki().foreign), host).server, "issuer is unknown"));
  CHECK(contains(shake_hands(pki().credentials(pki().foreign), host).client, "CA is unknown"));
  CHECK(contains(shake_hands(pki().credentials(pki().expired), host).client, "expired"));
  CHECK(contains(shake_hands(pki().credentials(pki().revoked), host).client, "Certificate was revoked"));
}

// gnutls-cli, a client of somebody else that can be told to show no certificate, or to speak only TLS 1.2.
std::string serve_gnutls_cli(const std::vector<std::string>& arguments) {
  int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  Fd owner(listener);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  check(::bind(listener, reinterpret_cast<sockaddr*>(&address), size), "bind");
  check(::listen(listener, 1), "listen");
  check(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), "getsockname");
  std::string command = fmt::format("exec gnutls-cli --port {} 127.0.0.1 --x509cafile {} ",
                                    ntohs(address.sin_port), pki().authority.certificate());
  for (const std::string& argument : arguments) command += argument + " ";
  command += "</dev/null >/dev/null 2>&1";
  pid_t pid = ::fork();
  if (pid == 0) {
    ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    ::_exit(127);
  }
  std::string failure = failure_of([&] {
    Fd socket(check(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC), "accept"));
    Session session(connection_of(std::move(socket), "gnutls-cli"), pki().credentials(pki().host),
                    server_options());
    CHECK(contains(session.description(), "TLS1.2 AES-128-GCM"));
  });
  ::kill(pid, SIGTERM);
  ::waitpid(pid, nullptr, 0);
  return failure;
}

TEST_CASE("a client without a certificate is refused") {
  std::string failure = serve_gnutls_cli({});
  CHECK(contains(failure, "TLS handshake: "));
  CHECK(contains(failure, "ertificate"));
}

TEST_CASE("TLS 1.2 is spoken too") {
  CHECK(serve_gnutls_cli({"--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2", "--x509certfile",
                          pki().host.certificate, "--x509keyfile", pki().host.key}) == "");
}

TEST_CASE("a peer that speaks no TLS is named as such, a silent one times out") {
  SocketPair pair = SocketPair::create(SOCK_STREAM);
  std::string words(64, 'x');
  write_all(pair.first.get(), std::as_bytes(std::span(words)), "socket");
  Shared host = pki().credentials(pki().host);
  auto reader = std::async(std::launch::async, [&] {  // else the alert's linger waits for its full time
    std::byte buffer[256];
    read_up_to(pair.first.get(), buffer, "socket");
    pair.first.reset();
  });
  CHECK(contains(
      failure_of([&] { Session(connection_of(std::move(pair.second), "x"), host, server_options()); }),
      "Does the peer use TLS?"));
  reader.get();

  SocketPair silent = SocketPair::create(SOCK_STREAM);
  SessionOptions options = server_options();
  options.handshake_timeout = Stream::Milliseconds{50};
  CHECK_THROWS_AS(Session(connection_of(std::move(silent.second), "x"), host, options), TimeoutError);
}

// Two connected sessions.
struct Sessions {
  std::unique_ptr<Session> client, server;
  explicit Sessions(std::vector<std::string> client_protocols = {},
                    std::vector<std::string> server_protocols = {}) {
    SocketPair pair = SocketPair::create(SOCK_STREAM);
    Shared host = pki().credentials(pki().host);
    auto served = std::async(std::launch::async, [&] {
      SessionOptions options = server_options();
      options.protocols = std::move(server_protocols);
      return std::make_unique<Session>(connection_of(std::move(pair.second), "client"), host, options);
    });
    SessionOptions options = client_options();
    options.protocols = std::move(client_protocols);
    client = std::make_unique<Session>(connection_of(std::move(pair.first), "server"), host, options);
    server = served.get();
  }
};

std::vector<std::byte> random_bytes(size_t size) {
  std::mt19937_64 generator(1);
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(generator());
  return bytes;
}

TEST_CASE("megabytes arrive unchanged, through changes of keys on both sides") {
  Sessions ends;
  auto sent = random_bytes(20 * kMiB + 12345);
  auto writer = std::async(std::launch::async, [&] {
    std::span<const std::byte> left(sent);
    while (!left.empty()) {
      auto piece = left.first(std::min<size_t>(left.size(), 3 * kMiB + 1));
      ends.client->write({piece.first(7), piece.subspan(7)});
      ends.client->update_keys();
      left = left.subspan(piece.size());
    }
    ends.client->end(Stream::Milliseconds{5000});
  });
  std::vector<std::byte> received(sent.size());
  ends.server->read_exactly(received, "bytes");
  CHECK(received == sent);
  std::byte more;
  CHECK(ends.server->read_some({&more, 1}) == 0);
  ends.server->end(Stream::Milliseconds{5000});
  writer.get();
}

TEST_CASE("what was decrypted already is seen before anybody polls") {
  Sessions ends;
  auto sent = random_bytes(3000);
  ends.client->write(sent);
  std::vector<std::byte> received(1000);
  ends.server->read_exactly(received, "bytes");
  // The other 2000 bytes are in the session, and the socket is silent.
  CHECK_FALSE(ends.server->wait_for_input(Stream::Milliseconds{0}));
  CHECK(ends.server->try_read(received) == 1000);
  CHECK(ends.server->try_read(received) == 1000);
  CHECK_FALSE(ends.server->try_read(received).has_value());
}

TEST_CASE("a stream that is cut off is not one that ended") {
  Sessions ends;
  std::byte byte{1};
  ends.client->write({&byte, 1});
  ends.server->read_exactly({&byte, 1}, "byte");
  ends.client.reset();  // closes the socket without close_notify
  CHECK(contains(failure_of([&] { ends.server->read_some({&byte, 1}); }), "without close_notify"));
}

TEST_CASE("a peer is known by its certificate and the protocol by ALPN") {
  Sessions agreed({"godwit/1", "x"}, {"godwit/1"});
  CHECK(agreed.client->protocol() == "godwit/1");
  CHECK(agreed.server->protocol() == "godwit/1");
  CHECK(agreed.server->peer_certificate().subject == "CN=host");
  CHECK(agreed.server->peer_certificate().sha256.size() == 64);
  Sessions one_sided({"godwit/1"}, {});
  CHECK(one_sided.client->protocol() == "");
  CHECK(one_sided.client->description() == "TLS1.3 AES-128-GCM");
}

TEST_CASE("a plain stream ends with what came, and a read that lasts too long says so") {
  SocketPair pair = SocketPair::create(SOCK_STREAM);
  PlainStream stream(connection_of(std::move(pair.first), "peer"));
  stream.set_timeout(Stream::Milliseconds{20});
  std::byte bytes[8];
  CHECK_THROWS_AS(stream.read_some(bytes), TimeoutError);
  write_all(pair.second.get(), std::as_bytes(std::span("abc", 3)), "socket");
  pair.second.reset();
  CHECK_THROWS_WITH_AS(stream.read_exactly(bytes, "header"), "header ends early: 3 of 8 bytes", FormatError);
  CHECK_THROWS_AS(stream.write(bytes), SystemError);  // EPIPE, no SIGPIPE
}

TEST_CASE("a write to a peer that does not read ends with the timeout, or when somebody aborts it") {
  SocketPair pair = SocketPair::create(SOCK_STREAM);
  PlainStream stream(connection_of(std::move(pair.first), "peer"));
  std::vector<std::byte> much(8 * kMiB);
  stream.set_timeout(Stream::Milliseconds{20});
  CHECK_THROWS_AS(stream.write(much), TimeoutError);
  stream.set_timeout(std::nullopt);
  auto writer = std::async(std::launch::async, [&] { return failure_of([&] { stream.write(much); }); });
  stream.abort();
  CHECK(writer.get() != "");
}

}  // namespace
}  // namespace godwit::tls
