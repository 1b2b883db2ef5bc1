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

TEST_CASE("several entries share a buffer, one behind the other, and none reaches beyond its end") {
  std::vector<std::byte> seen;
  EntryPipeline pipeline([&](std::span<const EntryPipeline::Entry> entries) {
    for (const auto& entry : entries) {
      for (size_t at = 0; at < entry.contents.size(); at += kPageSize) seen.push_back(entry.contents[at]);
    }
  });
  auto buffer = pipeline.buffer();
  for (size_t page = 0; page < 256; ++page) buffer[page * kPageSize] = static_cast<std::byte>(page);
  pipeline.add_pages({0, 1}, 4);
  pipeline.add_pages({kPageSize * 10, 254}, 4);
  CHECK_THROWS_AS(pipeline.add_pages({kPageSize * 1000, 2}, 4), Error);
  pipeline.add_pages({kPageSize * 1000, 1}, 4);
  pipeline.drain();
  REQUIRE(seen.size() == 256);
  for (size_t page = 0; page < 256; ++page) CHECK(seen[page] == static_cast<std::byte>(page));
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
