#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "engine/base/mapping.h"
#include "engine/kinds/page_sink.h"

namespace godwit::pageserver {

// Pagemap entries on their way to a second thread that sends or stores them, so that whoever fills the
// buffers goes on meanwhile. Bounded: who adds waits when the second thread lags. All calls come from one
// thread, and what the second one throws is thrown again, as Error, by the next call here.
class EntryPipeline {
 public:
  struct Entry {
    kinds::PageRange range;
    uint16_t flags = 0;                   // kInParent, kLazy, kPresent
    std::span<const std::byte> contents;  // empty unless kPresent
  };
  // Runs on the second thread with all entries that wait, in order.
  using Consumer = std::function<void(std::span<const Entry>)>;

  explicit EntryPipeline(Consumer consumer);
  // Drops what is still queued. The consumer must not be waiting for something that never comes.
  ~EntryPipeline();
  EntryPipeline(const EntryPipeline&) = delete;
  EntryPipeline& operator=(const EntryPipeline&) = delete;

  // As in kinds::PageSink.
  std::span<std::byte> buffer();
  // An entry whose contents come next in the last buffer().
  void add_pages(kinds::PageRange range, uint16_t flags);
  // An entry without contents.
  void add(kinds::PageRange range, uint16_t flags);
  // Waits until the consumer has taken everything and is idle: what it works on is then the caller's to use.
  void drain();

 private:
  struct Queued {
    Entry entry;
    std::optional<size_t> buffer;
  };
  void run();
  void enqueue(const Queued& queued);
  void throw_if_failed() const;
  // With the lock held: one user less.
  void release(size_t buffer);

  Consumer consumer_;
  std::optional<size_t> current_buffer_;  // handed out by buffer()
  uint64_t current_taken_ = 0;            // bytes of it that entries have taken
  std::vector<Mapping> buffers_;

  std::mutex mutex_;
  std::condition_variable work_;      // the second thread waits: entries, or the end
  std::condition_variable progress_;  // the first one waits: a free buffer, room, idleness
  std::vector<size_t> free_buffers_;
  std::vector<size_t> users_;  // of each buffer: queued entries, and one while it is the current one
  std::deque<Queued> queue_;
  bool consuming_ = false;
  bool stop_ = false;
  std::string failure_;  // of the consumer; empty: none
  std::thread thread_;
};

}  // namespace godwit::pageserver
