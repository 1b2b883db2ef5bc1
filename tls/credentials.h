#pragma once

#include <memory>
#include <optional>
#include <string>

namespace godwit::tls {

// The --tls-* files, all PEM; what is not given has a default, as in the manual of criu.
struct CredentialFiles {
  // Given: only these authorities are trusted. Else the system's, and PKI/CA/cacert.pem if it is there.
  std::optional<std::string> ca{};
  // Given: must be readable. Else PKI/CA/cacrl.pem, if it is there.
  std::optional<std::string> crl{};
  std::optional<std::string> certificate{};  // default PKI/criu/cert.pem; the owner first, then intermediates
  std::optional<std::string> key{};          // default PKI/criu/private/key.pem; not encrypted
  std::string pki = "/etc/pki";
};

// Our certificate and key, and whom we trust. Loaded once, shared by sessions; immutable, so threads may
// share it.
class Credentials {
 public:
  // Throws Error that names the file and gnutls' or the kernel's reason.
  explicit Credentials(const CredentialFiles& files);
  ~Credentials();
  Credentials(Credentials&&) noexcept;
  Credentials& operator=(Credentials&&) noexcept;

  // The gnutls handle (gnutls_certificate_credentials_t), for Session only.
  void* handle() const;

 private:
  struct Deleter {
    void operator()(void* handle) const;
  };
  std::unique_ptr<void, Deleter> handle_;
};

}  // namespace godwit::tls
