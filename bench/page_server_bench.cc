// How fast a frozen guest's memory reaches a page server, plain against one loopback connection and with TLS
// against one core's AES-128-GCM.
#include <thread>

#include "bench/bench_guest.h"
#include "bench/raw_limits.h"
#include "engine/base/error.h"
#include "engine/base/units.h"
#include "engine/images/stats.h"
#include "tests/support/certificates.h"

namespace godwit::bench {
namespace {

std::vector<std::string> tls_options(const test::CertificateAuthority& authority,
                                     const test::CertificateFiles& files) {
  return {"--tls",     "--tls-cacert", authority.certificate(), "--tls-cert", files.certificate,
          "--tls-key", files.key};
}

// GiB/s of one dump: the page server stores on the same tmpfs.
double dump_to_server(BenchGuest& guest, std::vector<std::string> server_tls,
                      std::vector<std::string> client_tls) {
  std::string images = guest.fresh_directory("images"), stored = guest.fresh_directory("stored");
  std::string port = std::to_string(free_port());
  ReadyPipe ready;
  std::vector<std::string> words{"page-server", "-D",          stored,
                                 "--address",   "127.0.0.1",   "--port",
                                 port,          "--status-fd", std::to_string(kPassedFd)};
  words.insert(words.end(), server_tls.begin(), server_tls.end());
  auto server = start_criu(words, guest.path("server.out"), ready.write_end());
  ready.wait();
  words = {"dump",
           "-t",
           std::to_string(guest.pid()),
           "-D",
           images,
           "-R",
           "--page-server",
           "--address",
           "127.0.0.1",
           "--port",
           port};
  words.insert(words.end(), client_tls.begin(), client_tls.end());
  run_criu(words, guest.path("dump.out"));
  server.succeed();
  auto statistics = images::read_dump_stats(images::ImageDirectory::open(images));
  guest.remove("images");
  guest.remove("stored");
  double seconds = (statistics.memdump_time() + statistics.memwrite_time()) / 1e6;
  return static_cast<double>(statistics.pages_written() * kPageSize) / kGiB / seconds;
}

void page_server_bench(const Settings& settings) {
  BenchGuest guest(settings);
  test::CertificateAuthority authority(guest.fresh_directory("certificates"), "bench");
  auto server = tls_options(authority, authority.issue({.name = "server", .ip_addresses = {"127.0.0.1"}}));
  auto client = tls_options(authority, authority.issue({.name = "client", .ip_addresses = {"127.0.0.1"}}));
  auto plain = measure(
      settings, [&] { return loopback_rate(settings.bytes); }, [&] { return dump_to_server(guest, {}, {}); });
  print(settings, {"page server, plain", "GiB/s shipped", "GiB/s loopback TCP", Bound::kAtLeast, 0.14},
        plain);
  auto secure = measure(
      settings, [&] { return aes_rate(settings.bytes); },
      [&] { return dump_to_server(guest, server, client); });
  print(settings, {"page server, TLS", "GiB/s shipped", "GiB/s AES-128-GCM", Bound::kAtLeast, 0.10}, secure);
}

}  // namespace
}  // namespace godwit::bench

int main(int argc, char** argv) {
  return godwit::bench::run_benchmark(argc, argv, godwit::bench::page_server_bench);
}
