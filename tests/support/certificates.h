#pragma once

#include <string>
#include <vector>

namespace godwit::test {

// The files of a certificate and its key, PEM.
struct CertificateFiles {
  std::string certificate, key;
};

struct CertificateRequest {
  std::string name;                      // CN, and the base of the file names
  std::vector<std::string> dns_names{};  // subject alternative names
  std::vector<std::string> ip_addresses{};
  bool expired = false;  // was valid for one day in 2020
};

// A certification authority of a test, made with certtool (gnutls-bin); its files live in a directory of the
// caller. Throws std::runtime_error with certtool's words.
class CertificateAuthority {
 public:
  CertificateAuthority(std::string directory, std::string name);

  // The authority's own certificate, for --tls-cacert.
  std::string certificate() const { return own_.certificate; }
  CertificateFiles issue(const CertificateRequest& request);
  // A revocation list with this one certificate; returns its file, for --tls-cacrl.
  std::string revoke(const CertificateFiles& files);

 private:
  CertificateFiles make_key(const std::string& name);
  std::string path(const std::string& name) const { return directory_ + "/" + name; }

  std::string directory_, name_;
  CertificateFiles own_;
};

}  // namespace godwit::test
