#include "tls/credentials.h"

#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#include <vector>

#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/base/log.h"

namespace godwit::tls {
namespace {

gnutls_datum_t datum(const std::string& text) {
  return {reinterpret_cast<unsigned char*>(const_cast<char*>(text.data())),
          static_cast<unsigned>(text.size())};
}

// A gnutls call on the contents of a file.
int check_file(int result, const char* what, const std::string& path) {
  if (result < 0) throw Error("TLS {} {}: {}", what, path, gnutls_strerror(result));
  return result;
}

std::string read_pem(const char* what, const std::string& path) {
  ErrorContext context{"TLS {}", what};
  return read_file(AT_FDCWD, path);
}

// The certificates of one file, owner first. Freed with the object; gnutls copies what it needs.
class Chain {
 public:
  explicit Chain(const std::string& path) {
    std::string text = read_pem("certificate", path);
    gnutls_datum_t bytes = datum(text);
    check_file(gnutls_x509_crt_list_import2(&list_, &size_, &bytes, GNUTLS_X509_FMT_PEM, 0), "certificate",
               path);
  }
  Chain(const Chain&) = delete;
  Chain& operator=(const Chain&) = delete;
  ~Chain() {
    for (unsigned i = 0; i < size_; ++i) gnutls_x509_crt_deinit(list_[i]);
    gnutls_free(list_);
  }
  gnutls_x509_crt_t* list() const { return list_; }
  int size() const { return static_cast<int>(size_); }

 private:
  gnutls_x509_crt_t* list_ = nullptr;
  unsigned size_ = 0;
};

class PrivateKey {
 public:
  explicit PrivateKey(const std::string& path) {
    std::string text = read_pem("key", path);
    gnutls_datum_t bytes = datum(text);
    check_file(gnutls_x509_privkey_init(&key_), "key", path);
    int result = gnutls_x509_privkey_import2(key_, &bytes, GNUTLS_X509_FMT_PEM, nullptr, 0);
    gnutls_memset(text.data(), 0, text.size());
    if (result < 0) gnutls_x509_privkey_deinit(key_);
    check_file(result, "key", path);
  }
  PrivateKey(const PrivateKey&) = delete;
  PrivateKey& operator=(const PrivateKey&) = delete;
  ~PrivateKey() { gnutls_x509_privkey_deinit(key_); }
  gnutls_x509_privkey_t get() const { return key_; }

 private:
  gnutls_x509_privkey_t key_ = nullptr;
};

void trust_file(gnutls_certificate_credentials_t credentials, const std::string& path,
                const std::string& text) {
  gnutls_datum_t bytes = datum(text);
  int count = gnutls_certificate_set_x509_trust_mem(credentials, &bytes, GNUTLS_X509_FMT_PEM);
  if (check_file(count, "authority", path) == 0) throw Error("TLS authority {}: no certificate in it", path);
}

void load_authorities(gnutls_certificate_credentials_t credentials, const CredentialFiles& files) {
  if (files.ca) return trust_file(credentials, *files.ca, read_pem("authority", *files.ca));
  int count = gnutls_certificate_set_x509_system_trust(credentials);
  if (count < 0) log::info("TLS: no authorities of the system: {}", gnutls_strerror(count));
  std::string path = files.pki + "/CA/cacert.pem";
  if (auto text = read_file_if_exists(AT_FDCWD, path)) {
    trust_file(credentials, path, *text);
  } else if (count <= 0) {
    throw Error("TLS: no authority to trust: the system has none, and {} is not there (--tls-cacert)", path);
  }
}

void load_revocations(gnutls_certificate_credentials_t credentials, const CredentialFiles& files) {
  std::string path = files.crl.value_or(files.pki + "/CA/cacrl.pem");
  auto text =
      files.crl ? std::optional(read_pem("revocation list", path)) : read_file_if_exists(AT_FDCWD, path);
  if (!text) return;
  gnutls_datum_t bytes = datum(*text);
  check_file(gnutls_certificate_set_x509_crl_mem(credentials, &bytes, GNUTLS_X509_FMT_PEM), "revocation list",
             path);
}

void load_own(gnutls_certificate_credentials_t credentials, const CredentialFiles& files) {
  std::string certificate_path = files.certificate.value_or(files.pki + "/criu/cert.pem");
  std::string key_path = files.key.value_or(files.pki + "/criu/private/key.pem");
  Chain chain(certificate_path);
  PrivateKey key(key_path);
  int result = gnutls_certificate_set_x509_key(credentials, chain.list(), chain.size(), key.get());
  if (result < 0) {
    throw Error("TLS certificate {} with key {}: {}", certificate_path, key_path, gnutls_strerror(result));
  }
}

}  // namespace

void Credentials::Deleter::operator()(void* handle) const {
  gnutls_certificate_free_credentials(static_cast<gnutls_certificate_credentials_t>(handle));
}

Credentials::Credentials(const CredentialFiles& files) {
  gnutls_certificate_credentials_t credentials;
  int result = gnutls_certificate_allocate_credentials(&credentials);
  if (result < 0) throw Error("TLS credentials: {}", gnutls_strerror(result));
  handle_.reset(credentials);
  load_authorities(credentials, files);
  load_revocations(credentials, files);
  load_own(credentials, files);
}

Credentials::~Credentials() = default;
Credentials::Credentials(Credentials&&) noexcept = default;
Credentials& Credentials::operator=(Credentials&&) noexcept = default;

void* Credentials::handle() const {
  return handle_.get();
}

}  // namespace godwit::tls
