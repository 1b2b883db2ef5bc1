// counter REPORT THREADS MIB: every thread counts, keeps patterns in its registers (general, AVX-512 where
// there is one), its stack and its thread-local storage, sleeps and computes by turns; the first also keeps
// MIB of memory with a pattern in every page and rewrites some of it.
#include <errno.h>
#include <immintrin.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

#include <vector>

#include "guest.h"

namespace {

constexpr size_t kPage = 4096;
thread_local uint64_t t_number;
std::atomic<unsigned> g_alive{0};

uint64_t mix(uint64_t value) {
  value ^= value >> 31;
  value *= 0x9e3779b97f4a7c15;
  return value ^ value >> 29;
}

// Keeps a vector in registers while it spins; false when it changed.
__attribute__((target("avx512f"))) bool spin_avx512(uint64_t seed, int rounds) {
  __m512i value = _mm512_set1_epi64(static_cast<long long>(seed));
  __m512i same = value;
  __mmask8 mask = static_cast<__mmask8>(seed);
  for (int i = 0; i < rounds; ++i) asm volatile("" : "+v"(value), "+v"(same), "+Yk"(mask));
  return _mm512_cmpeq_epi64_mask(value, same) == 0xff && mask == static_cast<__mmask8>(seed);
}

bool spin(uint64_t seed, int rounds) {
  uint64_t a = seed, b = ~seed, c = seed * 3;
  double d = static_cast<double>(seed % 1000);
  for (int i = 0; i < rounds; ++i) asm volatile("" : "+r"(a), "+r"(b), "+r"(c), "+x"(d));
  return a == seed && b == ~seed && c == seed * 3 && d == static_cast<double>(seed % 1000);
}

void one_round(guest::Report& report, uint64_t number, pid_t tid, uint64_t round) {
  EXPECT(t_number == number);
  EXPECT(::syscall(SYS_gettid) == tid);
  EXPECT(spin(mix(number + round), 20000));
  if (__builtin_cpu_supports("avx512f")) EXPECT(spin_avx512(mix(number ^ round), 20000));
  if (number % 3 == 0) {
    timespec pause{0, 2000000};
    // The restart block of a sleep that a dump interrupts is lost with the process: EINTR is what it gives
    // then.
    EXPECT(::nanosleep(&pause, nullptr) == 0 || errno == EINTR);
  }
}

void* count(void* argument) {
  auto& report = *static_cast<guest::Report*>(argument);
  static std::atomic<uint64_t> next{1};
  t_number = next++;
  uint64_t number = t_number;
  pid_t tid = static_cast<pid_t>(::syscall(SYS_gettid));
  g_alive++;
  for (uint64_t round = 0;; ++round) one_round(report, number, tid, round);
}

class Memory {
 public:
  explicit Memory(size_t mib) : pages_(mib * 256), versions_(pages_, 0) {
    if (pages_ == 0) return;
    data_ = static_cast<char*>(
        ::mmap(nullptr, pages_ * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    // Every seventh page stays untouched, every eleventh holds zeros.
    for (size_t page = 0; page < pages_; ++page) {
      if (page % 7 != 0) fill(page);
    }
  }
  void check_and_change(guest::Report& report, uint64_t round) {
    if (pages_ == 0) return;
    for (size_t i = 0; i < 64; ++i) {
      size_t page = mix(round * 64 + i) % pages_;
      if (page % 7 == 0) continue;
      EXPECT(holds(page));
      if (i % 4 == 0) {
        ++versions_[page];
        fill(page);
      }
    }
    size_t untouched = mix(round) % pages_ / 7 * 7;
    if (round % 50 == 0) EXPECT(data_[untouched * kPage] == 0);
  }

 private:
  uint64_t value(size_t page, size_t word) const {
    return page % 11 == 0 ? 0 : mix(page * 512 + word + versions_[page] * 77777);
  }
  void fill(size_t page) {
    auto* words = reinterpret_cast<uint64_t*>(data_ + page * kPage);
    for (size_t word = 0; word < 512; word += 16) words[word] = value(page, word);
  }
  bool holds(size_t page) const {
    auto* words = reinterpret_cast<const uint64_t*>(data_ + page * kPage);
    for (size_t word = 0; word < 512; word += 16) {
      if (words[word] != value(page, word)) return false;
    }
    return true;
  }

  size_t pages_;
  std::vector<uint64_t> versions_;
  char* data_ = nullptr;
};

}  // namespace

int main(int, char** argv) {
  static guest::Report report(argv[1]);
  unsigned threads = static_cast<unsigned>(atoi(argv[2]));
  Memory memory(static_cast<size_t>(atoi(argv[3])));
  for (unsigned i = 1; i < threads; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, count, &report) != 0) report.fail("pthread_create");
  }
  while (g_alive + 1 < threads) usleep(1000);
  pid_t tid = static_cast<pid_t>(::syscall(SYS_gettid));
  for (uint64_t round = 0;; ++round) {
    one_round(report, 0, tid, round);
    memory.check_and_change(report, round);
    report.tick();
  }
}
