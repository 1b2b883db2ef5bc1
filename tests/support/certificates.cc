#include "tests/support/certificates.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <stdexcept>

namespace godwit::test {
namespace {

std::string contents(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void certtool(std::vector<std::string> arguments, const std::string& log) {
  arguments.insert(arguments.begin(), "certtool");
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  pid_t pid = 0;
  int code = ::posix_spawnp(&pid, "certtool", &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (code != 0) throw std::runtime_error("certtool (package gnutls-bin) does not start");
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
  if (status != 0) throw std::runtime_error("certtool " + arguments[1] + ": " + contents(log));
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream(path) << text;
}

}  // namespace

CertificateAuthority::CertificateAuthority(std::string directory, std::string name)
    : directory_(std::move(directory)), name_(std::move(name)), own_(make_key(name_)) {
  std::string configuration = path(name_ + ".cfg");
  write_file(configuration,
             "cn = \"" + name_ + "\"\nca\ncert_signing_key\ncrl_signing_key\nexpiration_days = 30\n");
  certtool({"--generate-self-signed", "--load-privkey", own_.key, "--template", configuration, "--outfile",
            own_.certificate},
           path(name_ + ".log"));
}

CertificateFiles CertificateAuthority::make_key(const std::string& name) {
  CertificateFiles files{path(name + ".pem"), path(name + ".key")};
  certtool({"--generate-privkey", "--key-type", "ecdsa", "--curve", "secp256r1", "--no-text", "--outfile",
            files.key},
           path(name + ".log"));
  return files;
}

CertificateFiles CertificateAuthority::issue(const CertificateRequest& request) {
  CertificateFiles files = make_key(request.name);
  std::string configuration = path(request.name + ".cfg");
  std::string text = "cn = \"" + request.name + "\"\nsigning_key\ntls_www_server\ntls_www_client\n";
  for (const std::string& name : request.dns_names) text += "dns_name = \"" + name + "\"\n";
  for (const std::string& address : request.ip_addresses) text += "ip_address = \"" + address + "\"\n";
  text += request.expired
              ? "activation_date = \"2020-01-01 00:00:00\"\nexpiration_date = \"2020-01-02 00:00:00\"\n"
              : "expiration_days = 30\n";
  write_file(configuration, text);
  certtool({"--generate-certificate", "--load-privkey", files.key, "--load-ca-certificate", own_.certificate,
            "--load-ca-privkey", own_.key, "--template", configuration, "--outfile", files.certificate},
           path(request.name + ".log"));
  return files;
}

std::string CertificateAuthority::revoke(const CertificateFiles& files) {
  std::string list = files.certificate + ".crl";
  std::string configuration = files.certificate + ".crl.cfg";
  write_file(configuration, "crl_next_update = 30\ncrl_number = 1\n");
  certtool({"--generate-crl", "--load-ca-certificate", own_.certificate, "--load-ca-privkey", own_.key,
            "--load-certificate", files.certificate, "--template", configuration, "--outfile", list},
           list + ".log");
  return list;
}

}  // namespace godwit::test
