// guest BOARD BYTES: a program with this much random data in 4 KiB pages, that does what its board orders and
// otherwise sleeps and looks at the clock.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>

#include "bench/guest_board.h"

namespace {

using godwit::bench::Board;
using godwit::bench::Order;

constexpr size_t kPage = 4096;
constexpr size_t kWords = kPage / sizeof(uint64_t);

uint64_t now_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

uint64_t mix(uint64_t value) {
  value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9;
  value = (value ^ value >> 27) * 0x94d049bb133111eb;
  return value ^ value >> 31;
}

// A random order of 0 .. count-1 that needs no memory, which would itself have to come over the network: a
// Feistel network over the next even number of bits, walked until it falls below the count.
class RandomOrder {
 public:
  explicit RandomOrder(uint64_t count, uint64_t seed) : count_(count), seed_(seed) {
    while (uint64_t{1} << 2 * half_ < count) ++half_;
  }
  uint64_t at(uint64_t index) const {
    do {
      index = permute(index);
    } while (index >= count_);
    return index;
  }

 private:
  uint64_t permute(uint64_t value) const {
    uint64_t mask = (uint64_t{1} << half_) - 1;
    uint64_t left = value >> half_, right = value & mask;
    for (uint64_t round = 0; round < 4; ++round) {
      uint64_t next = left ^ (mix(right + seed_ + (round << 56)) & mask);
      left = right;
      right = next;
    }
    return left << half_ | right;
  }
  uint64_t count_, seed_;
  unsigned half_ = 1;
};

class Guest {
 public:
  Guest(Board& board, size_t bytes) : board_(board), pages_(bytes / kPage) {
    void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || ::madvise(memory, bytes, MADV_NOHUGEPAGE) != 0) abort();
    words_ = static_cast<volatile uint64_t*>(memory);
    board_.address = reinterpret_cast<uint64_t>(memory);
    rewrite();
  }

  [[noreturn]] void run() {
    for (uint64_t last = now_ns();;) {
      timespec pause{0, 100'000};
      ::nanosleep(&pause, nullptr);
      uint64_t now = now_ns();
      if (now - last > board_.longest_gap_ns) board_.longest_gap_ns = now - last;
      last = now;
      if (board_.order_number == board_.done) continue;
      carry_out(board_.order);
      last = now_ns();
      board_.done = board_.order_number.load();
    }
  }

 private:
  void carry_out(Order order) {
    if (order == Order::kRewrite) rewrite();
    if (order == Order::kTouch) touch();
    if (order == Order::kWatch) board_.longest_gap_ns = 0;
  }

  void rewrite() {
    uint64_t generation = ++board_.generation;
    for (uint64_t word = 0; word < pages_ * kWords; ++word) words_[word] = mix(word ^ generation << 48);
  }

  // A touch that had to wait for its page is one that faulted: a page that came before is mapped already. One
  // that only lost its core is none. The board may fault too, outside of what is measured.
  void touch() {
    RandomOrder order(pages_, board_.generation + board_.order_number);
    board_.waits = 0;
    uint64_t start = now_ns();
    for (uint64_t i = 0; i < pages_; ++i) {
      uint64_t word = order.at(i) * kWords;
      long faults = faults_so_far();
      uint64_t before = now_ns();
      uint64_t value = words_[word];
      uint64_t took = now_ns() - before;
      bool waited = faults_so_far() != faults;
      if (waited) wait_times(board_)[board_.waits++] = static_cast<uint32_t>(took);
      if (value != mix(word ^ board_.generation << 48)) ++board_.wrong_pages;
    }
    board_.touch_ns = now_ns() - start;
  }

  static long faults_so_far() {
    rusage usage{};
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_majflt + usage.ru_minflt;
  }

  Board& board_;
  size_t pages_;
  volatile uint64_t* words_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  size_t bytes = strtoul(argv[2], nullptr, 10);
  int file = ::open(argv[1], O_RDWR);
  size_t size = godwit::bench::board_size(bytes / kPage);
  void* board = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (file < 0 || board == MAP_FAILED) return 1;
  ::close(file);
  static Guest guest(*static_cast<Board*>(board), bytes);
  static_cast<Board*>(board)->done = static_cast<Board*>(board)->order_number.load();
  guest.run();
}
