#include "tls/credentials.h"

#include <doctest/doctest.h>

#include <fstream>

#include "engine/base/error.h"
#include "tests/support/certificates.h"
#include "tests/support/temporary_directory.h"

namespace godwit::tls {
namespace {

std::string failure(const CredentialFiles& files) {
  try {
    Credentials credentials(files);
  } catch (const Error& error) {
    return error.what();
  }
  return "loaded";
}

struct Fixture {
  test::TemporaryDirectory directory;
  test::CertificateAuthority authority{directory.path(), "ca"};
  test::CertificateFiles host = authority.issue({.name = "host"});
  CredentialFiles files{.ca = authority.certificate(),
                        .certificate = host.certificate,
                        .key = host.key,
                        .pki = directory / "pki"};

  std::string garbage(const std::string& name) {
    std::ofstream(directory / name) << "no PEM here\n";
    return directory / name;
  }
};

TEST_CASE_FIXTURE(Fixture, "good files load") {
  CHECK(failure(files) == "loaded");
}

TEST_CASE_FIXTURE(Fixture, "every file that is wrong is named with the reason") {
  CredentialFiles wrong = files;
  SUBCASE("authority missing") {
    wrong.ca = directory / "nowhere.pem";
    CHECK(failure(wrong) == "TLS authority: openat(" + *wrong.ca + "): No such file or directory");
  }
  SUBCASE("authority without a certificate") {
    wrong.ca = garbage("junk");
    CHECK(failure(wrong).starts_with("TLS authority " + *wrong.ca + ": "));
  }
  SUBCASE("certificate missing") {
    wrong.certificate.reset();
    CHECK(failure(wrong) ==
          "TLS certificate: openat(" + directory.path() + "/pki/criu/cert.pem): No such file or directory");
  }
  SUBCASE("certificate damaged") {
    wrong.certificate = garbage("junk");
    CHECK(failure(wrong).starts_with("TLS certificate " + *wrong.certificate + ": "));
  }
  SUBCASE("key missing") {
    wrong.key.reset();
    CHECK(failure(wrong) ==
          "TLS key: openat(" + directory.path() + "/pki/criu/private/key.pem): No such file or directory");
  }
  SUBCASE("key damaged") {
    wrong.key = garbage("junk");
    CHECK(failure(wrong).starts_with("TLS key " + *wrong.key + ": "));
  }
  SUBCASE("key of somebody else") {
    wrong.key = authority.issue({.name = "other"}).key;
    CHECK(
        failure(wrong).starts_with("TLS certificate " + host.certificate + " with key " + *wrong.key + ": "));
  }
  SUBCASE("revocation list that was asked for is missing") {
    wrong.crl = directory / "nowhere.crl";
    CHECK(failure(wrong) == "TLS revocation list: openat(" + *wrong.crl + "): No such file or directory");
  }
  SUBCASE("revocation list damaged") {
    wrong.crl = garbage("junk");
    CHECK(failure(wrong).starts_with("TLS revocation list " + *wrong.crl + ": "));
  }
}

TEST_CASE_FIXTURE(Fixture, "files that are not given come from the directory of the manual") {
  std::filesystem::create_directories(directory / "pki/CA");
  std::filesystem::create_directories(directory / "pki/criu/private");
  std::filesystem::copy_file(authority.certificate(), directory / "pki/CA/cacert.pem");
  std::filesystem::copy_file(host.certificate, directory / "pki/criu/cert.pem");
  std::filesystem::copy_file(host.key, directory / "pki/criu/private/key.pem");
  CredentialFiles defaults{.pki = directory / "pki"};
  CHECK(failure(defaults) == "loaded");
  std::ofstream(directory / "pki/CA/cacrl.pem") << "no PEM here\n";  // is read because it is there
  CHECK(failure(defaults).starts_with("TLS revocation list " + directory.path() + "/pki/CA/cacrl.pem: "));
}

}  // namespace
}  // namespace godwit::tls
