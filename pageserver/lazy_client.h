#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <span>

#include "engine/base/mapping.h"
#include "engine/kinds/page_sink.h"
#include "pageserver/connect.h"

namespace godwit::pageserver {

// Asks a page server for pages (GET), several requests in flight; answers come in the order of the requests.
// Used by one thread, with fd() in its poll set:
//   client.send_request(pid, range); ... poll ...; while (auto answer = client.receive_if_ready())
//   place(*answer);
// Throws SystemError, Error when the connection breaks; FormatError for an answer to something never asked.
class LazyClient {
 public:
  // Most pages of one request; a larger range is asked for in pieces by the caller.
  static constexpr uint64_t kMaxPages = 1024;

  explicit LazyClient(Peer peer);

  struct Answer {
    uint64_t pid = 0;
    kinds::PageRange asked;  // the request that this answers
    kinds::PageRange range;  // what came: starts where asked starts, at least one page, perhaps fewer
    std::span<const std::byte> bytes;  // of range; valid until the next receive
  };

  void send_request(uint64_t pid, kinds::PageRange range);
  // The next answer if it is complete; reads what is there and does not wait. After nothing, poll fd().
  std::optional<Answer> receive_if_ready();
  // Waits for the next answer, at most this long (throws tls::TimeoutError).
  Answer receive(tls::Stream::Timeout timeout = std::nullopt);

  // Requests without an answer so far.
  size_t outstanding() const { return requests_.size(); }
  int fd() const { return peer_.stream->fd(); }

  // Tells the source that everything has come (CLOSE) and waits for its answer; no request may be
  // outstanding.
  void close();

 private:
  struct Request {
    uint64_t pid;
    kinds::PageRange range;
  };
  void accept_header();

  Peer peer_;
  std::deque<Request> requests_;
  Mapping data_;
  std::array<std::byte, kLongHeaderSize> header_{};
  size_t received_ = 0;            // bytes of the answer in progress, header included
  std::optional<uint64_t> pages_;  // of the answer in progress, once its header is complete
};

}  // namespace godwit::pageserver
