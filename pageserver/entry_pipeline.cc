#include "pageserver/entry_pipeline.h"

#include <utility>

#include "engine/base/error.h"
#include "engine/base/units.h"

namespace godwit::pageserver {
namespace {

constexpr uint64_t kBufferPages = kinds::PageSink::kBufferPages;
// One is being filled and one is on its way; the others take up what the two threads differ by.
constexpr size_t kBuffers = 6;
// Entries without contents need no buffer; this bounds the memory that they may hold.
constexpr size_t kMostQueued = 1024;

}  // namespace

EntryPipeline::EntryPipeline(Consumer consumer) : consumer_(std::move(consumer)) {
  for (size_t i = 0; i < kBuffers; ++i) {
    buffers_.push_back(Mapping::anonymous(kBufferPages * kPageSize));
    free_buffers_.push_back(i);
    users_.push_back(0);
  }
  thread_ = std::thread([this] { run(); });
}

EntryPipeline::~EntryPipeline() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_.notify_one();
  thread_.join();
}

std::span<std::byte> EntryPipeline::buffer() {
  std::unique_lock lock(mutex_);
  if (current_buffer_) release(*std::exchange(current_buffer_, std::nullopt));
  progress_.wait(lock, [this] { return !free_buffers_.empty() || !failure_.empty(); });
  throw_if_failed();
  current_buffer_ = free_buffers_.back();
  free_buffers_.pop_back();
  current_taken_ = 0;
  users_[*current_buffer_] = 1;
  return buffers_[*current_buffer_].bytes();
}

void EntryPipeline::release(size_t buffer) {
  if (--users_[buffer] == 0) free_buffers_.push_back(buffer);
}

void EntryPipeline::add_pages(kinds::PageRange range, uint16_t flags) {
  uint64_t bytes = range.pages * kPageSize;
  if (!current_buffer_ || bytes > kBufferPages * kPageSize - current_taken_) {
    throw Error("{} pages were added without a buffer", range.pages);
  }
  auto contents = buffers_[*current_buffer_].bytes().subspan(current_taken_, bytes);
  current_taken_ += bytes;
  enqueue({{range, flags, contents}, current_buffer_});
}

void EntryPipeline::add(kinds::PageRange range, uint16_t flags) {
  enqueue({{range, flags, {}}, std::nullopt});
}

void EntryPipeline::enqueue(const Queued& queued) {
  std::unique_lock lock(mutex_);
  progress_.wait(lock, [this] { return queue_.size() < kMostQueued || !failure_.empty(); });
  throw_if_failed();
  if (queued.buffer) ++users_[*queued.buffer];
  queue_.push_back(queued);
  work_.notify_one();
}

void EntryPipeline::drain() {
  std::unique_lock lock(mutex_);
  progress_.wait(lock, [this] { return (queue_.empty() && !consuming_) || !failure_.empty(); });
  throw_if_failed();
}

void EntryPipeline::throw_if_failed() const {
  if (!failure_.empty()) throw Error("{}", failure_);
}

void EntryPipeline::run() {
  std::vector<Queued> batch;
  std::vector<Entry> entries;
  std::unique_lock lock(mutex_);
  for (;;) {
    work_.wait(lock, [this] { return stop_ || !queue_.empty(); });
    if (stop_) return;
    batch.assign(queue_.begin(), queue_.end());
    queue_.clear();
    consuming_ = true;
    lock.unlock();
    entries.clear();
    for (const Queued& queued : batch) entries.push_back(queued.entry);
    std::string failure;
    try {
      consumer_(entries);
    } catch (const std::exception& error) {
      failure = error.what();
    }
    lock.lock();
    consuming_ = false;
    for (const Queued& queued : batch) {
      if (queued.buffer) release(*queued.buffer);
    }
    failure_ = failure;
    progress_.notify_all();
    if (!failure_.empty()) return;
  }
}

}  // namespace godwit::pageserver
