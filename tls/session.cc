#include "tls/session.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "engine/base/units.h"

namespace godwit::tls {
namespace {

using Clock = std::chrono::steady_clock;

// TLS 1.2 and 1.3 with AES-128-GCM first; CBC and older versions are off.
constexpr const char* kPriority =
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305:"
    "%SERVER_PRECEDENCE";
constexpr size_t kLargestRecord = 16 * kKiB;
// Ciphertext is sent and received in pieces of this size: few system calls, and it stays in the second-level
// cache.
constexpr size_t kPiece = 256 * kKiB;
constexpr Stream::Milliseconds kAlertLinger{1'000};

int check_gnutls(int result, const char* what) {
  if (result < 0) throw Error("TLS {}: {}", what, gnutls_strerror(result));
  return result;
}

std::string take_text(gnutls_datum_t text) {
  std::string result(reinterpret_cast<const char*>(text.data), text.size);
  gnutls_free(text.data);
  while (!result.empty() && (result.back() == ' ' || result.back() == '\0')) result.pop_back();
  return result;
}

gnutls_alert_description_t alert_for(unsigned status) {
  if (status & GNUTLS_CERT_REVOKED) return GNUTLS_A_CERTIFICATE_REVOKED;
  if (status & GNUTLS_CERT_EXPIRED) return GNUTLS_A_CERTIFICATE_EXPIRED;
  if (status & GNUTLS_CERT_SIGNER_NOT_FOUND) return GNUTLS_A_UNKNOWN_CA;
  return GNUTLS_A_BAD_CERTIFICATE;
}

PeerCertificate describe_certificate(const gnutls_datum_t& der) {
  PeerCertificate result;
  unsigned char digest[32];
  size_t size = sizeof(digest);
  check_gnutls(gnutls_fingerprint(GNUTLS_DIG_SHA256, &der, digest, &size), "fingerprint");
  for (unsigned char byte : digest) result.sha256 += fmt::format("{:02x}", byte);

  gnutls_x509_crt_t certificate;
  check_gnutls(gnutls_x509_crt_init(&certificate), "certificate");
  std::unique_ptr<gnutls_x509_crt_int, decltype(&gnutls_x509_crt_deinit)> owner(certificate,
                                                                                gnutls_x509_crt_deinit);
  gnutls_datum_t name{};
  if (gnutls_x509_crt_import(certificate, &der, GNUTLS_X509_FMT_DER) == 0 &&
      gnutls_x509_crt_get_dn3(certificate, &name, 0) == 0) {
    result.subject = take_text(name);
  }
  return result;
}

bool is_ip_address(const std::string& name) {
  return name.find(':') != std::string::npos || name.find_first_not_of("0123456789.") == std::string::npos;
}

}  // namespace

// The gnutls session and its two buffers. gnutls calls back into this from C, so nothing here throws through
// it.
class Session::Handle {
 public:
  Handle(int socket, std::shared_ptr<const Credentials> credentials, const SessionOptions& options)
      : socket_(socket), server_name_(options.server_name), credentials_(std::move(credentials)) {
    unsigned role = options.role == Role::kClient ? GNUTLS_CLIENT : GNUTLS_SERVER;
    check_gnutls(gnutls_init(&session_, role | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS),
                 "session");
    outgoing_.reserve(kPiece + 2 * kLargestRecord);
    try {
      set_up(options);
    } catch (...) {
      gnutls_deinit(session_);
      throw;
    }
  }
  ~Handle() { gnutls_deinit(session_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  gnutls_session_t get() const { return session_; }
  std::vector<std::byte>& outgoing() { return outgoing_; }
  unsigned verify_status() const { return verify_status_; }
  const std::string& server_name() const { return server_name_; }

  // Whether the last gnutls call found the socket empty; only then waiting makes sense.
  bool starved() const { return starved_; }
  void start_call() { starved_ = false; }
  // Throws for a gnutls error code.
  [[noreturn]] void fail(int code) const {
    if (code == GNUTLS_E_PULL_ERROR && receive_error_ != 0) throw SystemError(receive_error_, "recv");
    if (code == GNUTLS_E_PREMATURE_TERMINATION)
      throw Error("the TLS stream was cut off: it ended without close_notify");
    if (code == GNUTLS_E_FATAL_ALERT_RECEIVED) {
      throw Error("the peer ended the TLS connection: {}", gnutls_alert_get_name(gnutls_alert_get(session_)));
    }
    throw Error("TLS: {}", gnutls_strerror(code));
  }

  PeerCertificate peer;
  size_t record_size = kLargestRecord;

 private:
  void set_up(const SessionOptions& options) {
    check_gnutls(gnutls_priority_set_direct(session_, kPriority, nullptr), "priorities");
    check_gnutls(gnutls_credentials_set(session_, GNUTLS_CRD_CERTIFICATE, credentials_->handle()),
                 "credentials");
    if (options.role == Role::kServer) {
      gnutls_certificate_server_set_request(session_, GNUTLS_CERT_REQUIRE);
      // Clients send their one certificate whatever authorities a server would name, and system trust is
      // long.
      gnutls_certificate_send_x509_rdn_sequence(session_, 1);
    } else if (!server_name_.empty() && !is_ip_address(server_name_)) {
      check_gnutls(
          gnutls_server_name_set(session_, GNUTLS_NAME_DNS, server_name_.data(), server_name_.size()),
          "server name");
    }
    offer(options.protocols);
    gnutls_session_set_ptr(session_, this);
    gnutls_session_set_verify_function(session_, verify);
    gnutls_transport_set_ptr(session_, this);
    gnutls_transport_set_push_function(session_, push);
    gnutls_transport_set_pull_function(session_, pull);
  }

  void offer(const std::vector<std::string>& protocols) {
    std::vector<gnutls_datum_t> list;
    for (const std::string& name : protocols) {
      auto* data = reinterpret_cast<unsigned char*>(const_cast<char*>(name.data()));
      list.push_back({data, static_cast<unsigned>(name.size())});
    }
    if (list.empty()) return;
    check_gnutls(gnutls_alpn_set_protocols(session_, list.data(), static_cast<unsigned>(list.size()), 0),
                 "ALPN");
  }

  static int verify(gnutls_session_t session) {
    auto* self = static_cast<Handle*>(gnutls_session_get_ptr(session));
    const char* name = self->server_name_.empty() ? nullptr : self->server_name_.c_str();
    int result = gnutls_certificate_verify_peers3(session, name, &self->verify_status_);
    if (result < 0) return result;
    return self->verify_status_ == 0 ? 0 : GNUTLS_E_CERTIFICATE_ERROR;
  }

  static ssize_t push(gnutls_transport_ptr_t pointer, const void* data, size_t size) noexcept {
    auto* self = static_cast<Handle*>(pointer);
    const auto* bytes = static_cast<const std::byte*>(data);
    try {
      self->outgoing_.insert(self->outgoing_.end(), bytes, bytes + size);
    } catch (const std::bad_alloc&) {
      gnutls_transport_set_errno(self->session_, ENOMEM);
      return -1;
    }
    return static_cast<ssize_t>(size);
  }

  static ssize_t pull(gnutls_transport_ptr_t pointer, void* data, size_t size) noexcept {
    auto* self = static_cast<Handle*>(pointer);
    if (self->incoming_begin_ == self->incoming_end_) {
      ssize_t count = self->receive();
      if (count <= 0) return count;
    }
    size_t count = std::min(size, self->incoming_end_ - self->incoming_begin_);
    std::memcpy(data, self->incoming_.data() + self->incoming_begin_, count);
    self->incoming_begin_ += count;
    return static_cast<ssize_t>(count);
  }

  ssize_t receive() noexcept {
    ssize_t count;
    do {
      count = ::recv(socket_, incoming_.data(), incoming_.size(), MSG_DONTWAIT);
    } while (count < 0 && errno == EINTR);
    if (count < 0) {
      starved_ = errno == EAGAIN;
      if (!starved_) receive_error_ = errno;
      gnutls_transport_set_errno(session_, errno);
      return -1;
    }
    incoming_begin_ = 0;
    incoming_end_ = static_cast<size_t>(count);
    return count;
  }

  int socket_;
  std::string server_name_;
  std::shared_ptr<const Credentials> credentials_;
  gnutls_session_t session_ = nullptr;
  std::vector<std::byte> outgoing_;
  std::vector<std::byte> incoming_ = std::vector<std::byte>(kPiece);
  size_t incoming_begin_ = 0;
  size_t incoming_end_ = 0;
  bool starved_ = false;
  int receive_error_ = 0;
  unsigned verify_status_ = 0;
};

Session::Session(Connection connection, std::shared_ptr<const Credentials> credentials,
                 const SessionOptions& options)
    : Stream(std::move(connection)),
      handle_(std::make_unique<Handle>(fd(), std::move(credentials), options)) {
  set_timeout(options.handshake_timeout);
  handshake(options);
  set_timeout(std::nullopt);
  unsigned count = 0;
  const gnutls_datum_t* chain = gnutls_certificate_get_peers(handle_->get(), &count);
  if (chain == nullptr || count == 0) throw Error("TLS: the peer showed no certificate");
  handle_->peer = describe_certificate(chain[0]);
  // A power of two, so that records never cross the 64 KiB marks that stock page servers read up to.
  handle_->record_size = std::bit_floor(std::min(kLargestRecord, gnutls_record_get_max_size(handle_->get())));
}

Session::~Session() = default;

void Session::handshake(const SessionOptions& options) {
  auto deadline = Clock::now() + options.handshake_timeout;
  for (;;) {
    handle_->start_call();
    int result = gnutls_handshake(handle_->get());
    if (result < 0 && gnutls_error_is_fatal(result)) fail_handshake(result);
    flush();
    if (result == 0) return;
    if (!handle_->starved()) continue;
    auto left = std::chrono::ceil<Milliseconds>(deadline - Clock::now());
    if (left.count() <= 0 || !wait(POLLIN, left)) {
      throw TimeoutError("TLS handshake: no answer for {} ms", options.handshake_timeout.count());
    }
  }
}

// Tells the peer why, lets it read that before the connection goes, and throws.
void Session::fail_handshake(int code) {
  unsigned status = handle_->verify_status();
  if (status != 0) {
    gnutls_alert_send(handle_->get(), GNUTLS_AL_FATAL, alert_for(status));
  } else if (code != GNUTLS_E_FATAL_ALERT_RECEIVED) {
    gnutls_alert_send_appropriate(handle_->get(), code);
  }
  try {
    flush();
  } catch (const Error&) {  // the peer is gone; the reason below is what matters
  }
  shut_down(kAlertLinger);
  if (status != 0) {
    gnutls_datum_t text{};
    check_gnutls(gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0),
                 "verification");
    std::string reason = take_text(text);
    if (status & GNUTLS_CERT_UNEXPECTED_OWNER)
      reason += fmt::format(" (it must be \"{}\")", handle_->server_name());
    throw Error("the peer's certificate is not accepted: {}", reason);
  }
  if (code == GNUTLS_E_UNEXPECTED_PACKET_LENGTH || code == GNUTLS_E_UNSUPPORTED_VERSION_PACKET ||
      code == GNUTLS_E_UNEXPECTED_PACKET || code == GNUTLS_E_RECORD_OVERFLOW) {
    throw Error("TLS handshake: {} Does the peer use TLS?", gnutls_strerror(code));
  }
  ErrorContext context{"TLS handshake"};
  handle_->fail(code);
}

std::optional<size_t> Session::try_read(Bytes bytes) {
  if (bytes.empty()) return 0;
  for (;;) {
    handle_->start_call();
    ssize_t count = gnutls_record_recv(handle_->get(), bytes.data(), bytes.size());
    if (!handle_->outgoing().empty()) flush();  // answers of the protocol itself
    if (count >= 0) return static_cast<size_t>(count);
    int code = static_cast<int>(count);
    if (code == GNUTLS_E_REHANDSHAKE) {  // TLS 1.2 peers may ask for a new handshake; nobody has to agree
      gnutls_alert_send(handle_->get(), GNUTLS_AL_WARNING, GNUTLS_A_NO_RENEGOTIATION);
      flush();
      continue;
    }
    if (gnutls_error_is_fatal(code)) handle_->fail(code);
    if (handle_->starved()) return std::nullopt;
  }
}

void Session::write(std::span<const ConstBytes> parts) {
  for (ConstBytes part : parts) write_part(part);
  flush();
}

void Session::write_part(ConstBytes part) {
  while (!part.empty()) {
    size_t size = std::min(part.size(), handle_->record_size);
    ssize_t count = gnutls_record_send(handle_->get(), part.data(), size);
    if (count < 0) {
      if (gnutls_error_is_fatal(static_cast<int>(count))) handle_->fail(static_cast<int>(count));
      continue;
    }
    part = part.subspan(static_cast<size_t>(count));
    if (handle_->outgoing().size() >= kPiece) flush();
  }
}

void Session::flush() {
  std::vector<std::byte>& bytes = handle_->outgoing();
  for (size_t done = 0; done < bytes.size();) {
    ssize_t count = ::send(fd(), bytes.data() + done, bytes.size() - done, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count >= 0) {
      done += static_cast<size_t>(count);
    } else if (errno == EAGAIN) {
      wait_or_throw(POLLOUT);
    } else if (errno != EINTR) {
      int code = errno;
      bytes.clear();
      // A server that refuses our certificate says so in an alert and goes: that is the reason, not the
      // broken pipe.
      std::byte unused;
      handle_->start_call();
      ssize_t received = gnutls_record_recv(handle_->get(), &unused, 1);
      if (received == GNUTLS_E_FATAL_ALERT_RECEIVED) handle_->fail(static_cast<int>(received));
      throw SystemError(code, "send");
    }
  }
  bytes.clear();
}

bool Session::end(Milliseconds timeout) noexcept {
  auto deadline = Clock::now() + timeout;
  bool orderly = false;
  try {
    if (!this->timeout() || *this->timeout() > timeout) set_timeout(timeout);
    check_gnutls(gnutls_bye(handle_->get(), GNUTLS_SHUT_WR), "end");
    flush();
    std::vector<std::byte> dropped(kLargestRecord);
    for (;;) {
      auto left = std::chrono::ceil<Milliseconds>(deadline - Clock::now());
      if (left.count() <= 0) break;
      auto count = read_within(dropped, left);
      orderly = count && *count == 0;
      if (!count || orderly) break;
    }
  } catch (const std::exception&) {  // the peer is gone already
  }
  auto left = std::chrono::ceil<Milliseconds>(deadline - Clock::now());
  return shut_down(std::max(left, Milliseconds{0})) && orderly;
}

void Session::update_keys() {
  if (gnutls_protocol_get_version(handle_->get()) != GNUTLS_TLS1_3) return;
  check_gnutls(gnutls_session_key_update(handle_->get(), GNUTLS_KU_PEER), "key update");
  flush();
}

const PeerCertificate& Session::peer_certificate() const {
  return handle_->peer;
}

std::string Session::protocol() const {
  gnutls_datum_t name{};
  if (gnutls_alpn_get_selected_protocol(handle_->get(), &name) != 0) return {};
  return std::string(reinterpret_cast<const char*>(name.data), name.size);
}

std::string Session::description() const {
  return fmt::format("{} {}", gnutls_protocol_get_name(gnutls_protocol_get_version(handle_->get())),
                     gnutls_cipher_get_name(gnutls_cipher_get(handle_->get())));
}

}  // namespace godwit::tls
