#include "pageserver/entry_pipeline.h"

#include <doctest/doctest.h>

#include <atomic>
#include <semaphore>

#include "engine/base/error.h"
#include "engine/base/units.h"

namespace godwit::pageserver {
namespace {

TEST_CASE("entries arrive in order with the contents that they were added with") {
  std::vector<uint64_t> addresses;
  std::vector<int> first_bytes;
  EntryPipeline pipeline([&](std::span<const EntryPipeline::Entry> entries) {
    for (const EntryPipeline::Entry& entry : entries) {
      addresses.push_back(entry.range.address);
      first_bytes.push_back(entry.contents.empty() ? -1 : std::to_integer<int>(entry.contents[0]));
    }
  });
  for (int i = 0; i < 50; ++i) {
    pipeline.buffer()[0] = static_cast<std::byte>(i);
    pipeline.add_pages({static_cast<uint64_t>(2 * i) * kPageSize, 1}, 4);
    pipeline.add({static_cast<uint64_t>(2 * i + 1) * kPageSize, 1}, 1);
  }
  pipeline.drain();
  REQUIRE(addresses.size() == 100);
  for (int i = 0; i < 100; ++i) {
    CHECK(addresses[static_cast<size_t>(i)] == static_cast<uint64_t>(i) * kPageSize);
    CHECK(first_bytes[static_cast<size_t>(i)] == (i % 2 == 0 ? i / 2 : -1));
  }
}

TEST_CASE("the buffer stays the same until it is used") {
  EntryPipeline pipeline([](auto) {});
  auto first = pipeline.buffer();
  CHECK(pipeline.buffer().data() == first.data());
  pipeline.add_pages({0, 1}, 4);
  CHECK_THROWS_AS(pipeline.add_pages({kPageSize, 1}, 4), Error);  // no buffer was asked for
}

TEST_CASE("what the second thread throws comes out of the next call, in the caller's context") {
  EntryPipeline pipeline([](auto) { throw Error("disk full"); });
  ErrorContext context{"client {}", 7};
  pipeline.add({0, 1}, 1);
  CHECK_THROWS_WITH_AS(pipeline.drain(), "client 7: disk full", Error);
  CHECK_THROWS_WITH_AS(pipeline.add({kPageSize, 1}, 1), "client 7: disk full", Error);
}

TEST_CASE("who adds waits when the second thread lags") {
  std::binary_semaphore go(0);
  std::atomic<int> consumed = 0;
  EntryPipeline pipeline([&](std::span<const EntryPipeline::Entry> entries) {
    if (consumed == 0) go.acquire();
    consumed += static_cast<int>(entries.size());
  });
  std::atomic<int> added = 0;
  std::thread caller([&] {
    for (int i = 0; i < 20; ++i) {
      pipeline.buffer();
      pipeline.add_pages({static_cast<uint64_t>(i) * kPageSize, 1}, 4);
      ++added;
    }
    pipeline.drain();
  });
  while (added < 6) std::this_thread::yield();
  CHECK(added == 6);  // all buffers are taken, and nothing was consumed
  CHECK(consumed == 0);
  go.release();
  caller.join();
  CHECK(consumed == 20);
}

}  // namespace
}  // namespace godwit::pageserver
