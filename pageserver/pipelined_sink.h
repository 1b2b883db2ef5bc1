#pragma once

#include <memory>

#include "engine/kinds/page_sink.h"
#include "pageserver/entry_pipeline.h"

namespace godwit::pageserver {

// Lets another sink work on a thread of its own: while it writes one piece, the next comes out of the socket.
// The inner sink is used by one thread at a time.
class PipelinedSink final : public kinds::PageSink {
 public:
  explicit PipelinedSink(std::unique_ptr<kinds::PageSink> inner);

  bool open(kinds::PageImageId id) override;
  void add_in_parent(kinds::PageRange range) override;
  void add_lazy(kinds::PageRange range) override;
  std::span<std::byte> buffer() override;
  void add_pages(kinds::PageRange range, bool may_be_lazy) override;
  void close() override;
  void finish() override;

 private:
  void store(std::span<const EntryPipeline::Entry> entries);

  std::unique_ptr<kinds::PageSink> inner_;
  EntryPipeline pipeline_;  // last: its thread uses the sink
};

}  // namespace godwit::pageserver
