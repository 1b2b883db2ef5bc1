#pragma once

#include <cstdint>
#include <optional>

#include "engine/kinds/page_sink.h"
#include "pageserver/connect.h"
#include "pageserver/entry_pipeline.h"

namespace godwit::pageserver {

// Ships pages to a page server. A thread of its own encrypts and sends, so that the caller reads the next
// pages meanwhile; what fails there is thrown by the caller's next call. All calls come from one thread.
class Client final : public kinds::PageSink {
 public:
  explicit Client(Peer peer);
  // Without finish() the connection is broken off, and the server drops what it got.
  ~Client() override;

  // Asks whether the server's parent directory has an image of this id (PARENT), without opening one.
  bool has_parent(kinds::PageImageId id);

  bool open(kinds::PageImageId id) override;
  void add_in_parent(kinds::PageRange range) override;
  void add_lazy(kinds::PageRange range) override;
  std::span<std::byte> buffer() override;
  void add_pages(kinds::PageRange range, bool may_be_lazy) override;
  void close() override;
  // Sends CLOSE and waits for the server's word that everything is stored. Throws Error when it reports a
  // failure.
  void finish() override;

  // Headers and pages handed over so far.
  uint64_t bytes_sent() const { return bytes_sent_; }

 private:
  void send(std::span<const EntryPipeline::Entry> entries);
  void count(uint64_t pages);
  void read_answer(tls::Stream& stream, std::span<std::byte> answer);
  void request(Command command, uint64_t dst_id, std::span<std::byte> answer, tls::Stream::Timeout timeout);

  Peer peer_;
  uint64_t image_ = 0;     // dst_id of the open image; 0: none
  bool answered_ = false;  // the server has understood us at least once
  bool finished_ = false;
  uint64_t bytes_sent_ = 0;
  // Last: its thread uses everything above.
  EntryPipeline pipeline_;
};

}  // namespace godwit::pageserver
