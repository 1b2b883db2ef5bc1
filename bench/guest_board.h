#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

// What a benchmark and its guest say to each other: a file that both map. The guest keeps it through dump and
// restore as any file mapping, and it stays local when the guest's own memory comes later.
namespace godwit::bench {

enum class Order : uint32_t {
  kNone,
  kRewrite,  // new contents for every page
  kTouch,    // read every page once in random order, check it, note how long it waited
  kWatch,    // forget the longest gap, measure it from now on
};

struct Board {
  // An order is a new number here; the guest carries out one at a time and copies the number to `done`.
  std::atomic<uint32_t> order_number;
  std::atomic<Order> order;
  std::atomic<uint32_t> done;
  std::atomic<uint64_t> generation;      // what the pages hold
  std::atomic<uint64_t> address;         // of the memory
  std::atomic<uint64_t> longest_gap_ns;  // between two looks at the clock, which it takes every 0.1 ms
  std::atomic<uint64_t> wrong_pages;     // that did not hold what they should
  std::atomic<uint64_t> touch_ns;        // all touches together
  std::atomic<uint64_t> waits;           // touches that waited
};

// How long each of them did, in nanoseconds; the board has room for as many as the guest has pages.
inline uint32_t* wait_times(Board& board) {
  return reinterpret_cast<uint32_t*>(&board + 1);
}

inline constexpr size_t board_size(size_t pages) {
  return sizeof(Board) + pages * sizeof(uint32_t);
}

}  // namespace godwit::bench
