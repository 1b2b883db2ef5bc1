#include "bench/raw_limits.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gnutls/crypto.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <thread>

#include "bench/measure.h"
#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/base/units.h"
#include "engine/kernel/userfaultfd.h"

namespace godwit::bench {
namespace {

constexpr size_t kPiece = kMiB;

std::byte* map_small_pages(size_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw SystemError(errno, "mmap({} bytes)", bytes);
  check(::madvise(memory, bytes, MADV_NOHUGEPAGE), "madvise(MADV_NOHUGEPAGE)");
  return static_cast<std::byte*>(memory);
}

void fill(std::span<std::byte> bytes) {
  uint64_t state = 88172645463325252;
  for (size_t at = 0; at + sizeof state <= bytes.size(); at += sizeof state) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    std::memcpy(bytes.data() + at, &state, sizeof state);
  }
}

std::vector<std::byte> random_piece() {
  std::vector<std::byte> piece(kPiece);
  fill(piece);
  return piece;
}

double rate(size_t bytes, Clock::time_point start) {
  return static_cast<double>(bytes) / kGiB / (milliseconds_since(start) / 1000);
}

// Two ends of a TCP connection over 127.0.0.1, without Nagle's delay.
struct LoopbackPair {
  Fd first, second;

  LoopbackPair() {
    Fd listener(check(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* any = reinterpret_cast<sockaddr*>(&address);
    check(::bind(listener.get(), any, size), "bind(127.0.0.1)");
    check(::listen(listener.get(), 1), "listen");
    check(::getsockname(listener.get(), any, &size), "getsockname");
    first.reset(check(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "socket"));
    check(::connect(first.get(), any, size), "connect(127.0.0.1)");
    second.reset(check(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC), "accept"));
    int on = 1;
    for (const Fd* fd : {&first, &second}) {
      check(::setsockopt(fd->get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), "TCP_NODELAY");
    }
  }
};

}  // namespace

double tmpfs_write_ms(const std::string& path, size_t bytes) {
  auto piece = random_piece();
  Fd file = open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  auto start = Clock::now();
  for (size_t done = 0; done < bytes; done += kPiece) {
    write_all(file.get(), std::span(piece).first(std::min(kPiece, bytes - done)), path.c_str());
  }
  double took = milliseconds_since(start);
  check(::unlink(path.c_str()), "unlink({})", path);
  return took;
}

AnonymousCopy::AnonymousCopy(size_t bytes) : bytes_(bytes), source_(map_small_pages(bytes)) {
  fill({source_, bytes_});
}

AnonymousCopy::~AnonymousCopy() {
  ::munmap(source_, bytes_);
}

double AnonymousCopy::run_ms() {
  std::byte* target = map_small_pages(bytes_);
  auto start = Clock::now();
  std::memcpy(target, source_, bytes_);
  asm volatile("" : : "r"(target) : "memory");
  double took = milliseconds_since(start);
  ::munmap(target, bytes_);
  return took;
}

double loopback_rate(size_t bytes) {
  LoopbackPair pair;
  auto piece = random_piece();
  auto start = Clock::now();
  std::thread writer([&] {
    for (size_t done = 0; done < bytes; done += kPiece) {
      write_all(pair.first.get(), std::span(piece).first(std::min(kPiece, bytes - done)), "loopback");
    }
    ::shutdown(pair.first.get(), SHUT_WR);
  });
  std::vector<std::byte> received(kPiece);
  while (read_up_to(pair.second.get(), received, "loopback") != 0) continue;
  double result = rate(bytes, start);
  writer.join();
  return result;
}

double aes_rate(size_t bytes) {
  constexpr size_t kRecord = 16 * kKiB, kTag = 16;
  std::array<unsigned char, 16> key{1, 2, 3};
  std::array<unsigned char, 12> nonce{};
  gnutls_datum_t key_datum{key.data(), key.size()};
  gnutls_aead_cipher_hd_t cipher = nullptr;
  if (gnutls_aead_cipher_init(&cipher, GNUTLS_CIPHER_AES_128_GCM, &key_datum) != 0) {
    throw Error("gnutls has no AES-128-GCM");
  }
  auto piece = random_piece();
  std::vector<std::byte> record(kRecord + kTag);
  auto start = Clock::now();
  for (size_t done = 0; done < bytes; done += kRecord) {
    std::memcpy(nonce.data(), &done, sizeof done);
    size_t size = record.size();
    gnutls_aead_cipher_encrypt(cipher, nonce.data(), nonce.size(), nullptr, 0, kTag,
                               piece.data() + done % kPiece, kRecord, record.data(), &size);
  }
  double result = rate(bytes, start);
  gnutls_aead_cipher_deinit(cipher);
  return result;
}

std::vector<double> round_trips_us(size_t count) {
  constexpr size_t kQuestion = 32, kAnswer = kPageSize;
  LoopbackPair pair;
  std::thread server([&] {
    std::array<std::byte, kQuestion> question{};
    std::array<std::byte, kAnswer> answer{};
    for (size_t i = 0; i < count; ++i) {
      read_exactly(pair.second.get(), question, "question");
      write_all(pair.second.get(), answer, "answer");
    }
  });
  std::vector<double> times;
  std::array<std::byte, kQuestion> question{};
  std::array<std::byte, kAnswer> answer{};
  for (size_t i = 0; i < count; ++i) {
    auto start = Clock::now();
    write_all(pair.first.get(), question, "question");
    read_exactly(pair.first.get(), answer, "answer");
    times.push_back(milliseconds_since(start) * 1000);
  }
  server.join();
  std::sort(times.begin(), times.end());
  return times;
}

std::vector<double> local_faults_us(size_t count) {
  auto userfaults = kernel::Userfaultfd::create(0);
  std::byte* memory = map_small_pages(count * kPageSize);
  userfaults.register_missing(reinterpret_cast<uint64_t>(memory), count * kPageSize);
  std::thread server([&] {
    std::vector<std::byte> page(kPageSize, std::byte{7});
    for (size_t served = 0; served < count;) {
      pollfd waiting{userfaults.fd(), POLLIN, 0};
      ::poll(&waiting, 1, -1);
      uffd_msg message{};
      if (userfaults.read({&message, 1}) == 0) continue;
      userfaults.copy(page_down(message.arg.pagefault.address), page);
      ++served;
    }
  });
  std::vector<double> times;
  for (size_t i = 0; i < count; ++i) {
    // Far apart, and each page once: 4093 is odd and coprime to counts below it or not a multiple of it.
    volatile std::byte* page = memory + i * 4093 % count * kPageSize;
    auto start = Clock::now();
    static_cast<void>(*page);
    times.push_back(milliseconds_since(start) * 1000);
  }
  server.join();
  ::munmap(memory, count * kPageSize);
  std::sort(times.begin(), times.end());
  return times;
}

}  // namespace godwit::bench
