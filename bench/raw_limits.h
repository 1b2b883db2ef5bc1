#pragma once

#include <cstddef>
#include <string>
#include <vector>

// What this machine can do at best, by the plainest means, one thread unless said otherwise. Each call
// measures once. All memory is in 4 KiB pages (MADV_NOHUGEPAGE) and holds random data.
namespace godwit::bench {

// Writing `bytes` into a new file of a tmpfs, in pieces of 1 MiB; ms. The file is removed afterwards.
double tmpfs_write_ms(const std::string& path, size_t bytes);

// Copies memory that is there into new anonymous memory.
class AnonymousCopy {
 public:
  explicit AnonymousCopy(size_t bytes);
  AnonymousCopy(const AnonymousCopy&) = delete;
  AnonymousCopy& operator=(const AnonymousCopy&) = delete;
  ~AnonymousCopy();
  double run_ms();

 private:
  size_t bytes_;
  std::byte* source_;
};

// One TCP connection over loopback: a thread writes, another reads, in pieces of 1 MiB; GiB/s.
double loopback_rate(size_t bytes);
// gnutls AES-128-GCM over records of 16 KiB; GiB/s of one core.
double aes_rate(size_t bytes);

// A 32-byte question and its 4 KiB answer over loopback TCP between two threads; `count` of them, sorted, us.
std::vector<double> round_trips_us(size_t count);
// Faults on missing pages that a thread of the same process answers with UFFDIO_COPY; sorted, us.
std::vector<double> local_faults_us(size_t count);

}  // namespace godwit::bench
