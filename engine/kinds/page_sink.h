#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace godwit::kinds {

// Whose pages: a task's private memory (id is its pid) or a shared memory object (id is its shmid).
struct PageImageId {
  enum class Type { kTask, kSharedMemory };
  Type type = Type::kTask;
  uint64_t id = 0;
  bool operator==(const PageImageId&) const = default;
};

// A run of whole pages.
struct PageRange {
  uint64_t address = 0;  // bytes; page aligned
  uint64_t pages = 0;
  bool operator==(const PageRange&) const = default;
};

// Where a dump puts memory: an image directory (images::DirectoryPageSink) or a page server
// (pageserver::Client). One image is open at a time; ranges come in ascending order. Every call may throw;
// the dump then rolls back.
class PageSink {
 public:
  PageSink() = default;
  PageSink(const PageSink&) = delete;
  PageSink& operator=(const PageSink&) = delete;
  virtual ~PageSink() = default;

  // Begins an image; returns whether the parent of this dump has an image of the same id.
  virtual bool open(PageImageId id) = 0;
  // Pages whose contents stand in the parent (PE_PARENT).
  virtual void add_in_parent(PageRange range) = 0;
  // Pages that are not shipped now and come on demand (PE_LAZY).
  virtual void add_lazy(PageRange range) = 0;

  // A buffer of kBufferPages pages to read memory into. Waits for one if the sink is still shipping earlier
  // ones. What add_pages has not taken of the last buffer is dropped.
  static constexpr uint64_t kBufferPages = 256;
  virtual std::span<std::byte> buffer() = 0;
  // Pages with their contents, which are in the last buffer(): at its start for the first call, behind those
  // of the call before for the following ones. They must not be changed any more. `may_be_lazy` marks them as
  // eligible for post-copy (PE_LAZY | PE_PRESENT in images).
  virtual void add_pages(PageRange range, bool may_be_lazy) = 0;

  // The same with contents that the caller holds, at most kBufferPages; sinks that can do without the copy
  // override it.
  virtual void add_contents(PageRange range, std::span<const std::byte> contents, bool may_be_lazy) {
    std::memcpy(buffer().data(), contents.data(), contents.size());
    add_pages(range, may_be_lazy);
  }

  // Ends the open image.
  virtual void close() = 0;
  // Everything is safely stored when this returns (fsync, or the page server's answer to CLOSE).
  virtual void finish() = 0;
};

}  // namespace godwit::kinds
