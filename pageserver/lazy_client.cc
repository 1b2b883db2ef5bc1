#include "pageserver/lazy_client.h"

#include <algorithm>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/units.h"

namespace godwit::pageserver {
namespace {

constexpr std::chrono::milliseconds kCloseTimeout{30'000};
constexpr std::chrono::milliseconds kEndTimeout{5'000};
constexpr std::chrono::milliseconds kSendTimeout{120'000};

}  // namespace

LazyClient::LazyClient(Peer peer) : peer_(std::move(peer)), data_(Mapping::anonymous(kMaxPages * kPageSize)) {
  peer_.stream->set_timeout(kSendTimeout);
}

void LazyClient::send_request(uint64_t pid, kinds::PageRange range) {
  if (range.pages == 0 || range.pages > kMaxPages) {
    throw Error("a request for {} pages: 1 to {} are possible", range.pages, kMaxPages);
  }
  ErrorContext context{"page server {}", peer_.stream->peer()};
  Header header{Command::kGet, 0, range.pages, range.address, pid};
  EncodedHeader encoded(header, peer_.layout);
  peer_.stream->write(encoded.bytes());
  requests_.push_back({pid, range});
}

std::optional<LazyClient::Answer> LazyClient::receive_if_ready() {
  if (requests_.empty()) return std::nullopt;
  ErrorContext context{"page server {}", peer_.stream->peer()};
  size_t header = header_size(peer_.layout);
  for (;;) {
    if (received_ == header && !pages_) accept_header();
    size_t goal = header + pages_.value_or(0) * kPageSize;
    if (pages_ && received_ == goal) break;
    auto into = pages_ ? data_.bytes().subspan(received_ - header, goal - received_)
                       : std::span(header_).subspan(received_, goal - received_);
    auto count = peer_.stream->try_read(into);
    if (!count) return std::nullopt;
    if (*count == 0) throw Error("the connection ended with {} requests unanswered", requests_.size());
    received_ += *count;
  }
  Request request = requests_.front();
  requests_.pop_front();
  uint64_t pages = *pages_;
  received_ = 0;
  pages_.reset();
  return Answer{
      request.pid, request.range, {request.range.address, pages}, data_.bytes().first(pages * kPageSize)};
}

LazyClient::Answer LazyClient::receive(tls::Stream::Timeout timeout) {
  if (requests_.empty()) throw Error("page server {}: no request to wait for", peer_.stream->peer());
  auto start = std::chrono::steady_clock::now();
  for (;;) {
    if (auto answer = receive_if_ready()) return *answer;
    auto passed =
        std::chrono::duration_cast<tls::Stream::Milliseconds>(std::chrono::steady_clock::now() - start);
    if (timeout && passed >= *timeout) {
      throw tls::TimeoutError("page server {}: no answer for {} ms", peer_.stream->peer(), timeout->count());
    }
    peer_.stream->wait_for_input(timeout ? tls::Stream::Timeout(*timeout - passed) : std::nullopt);
  }
}

// The header of an answer must fit the oldest request: nothing else bounds what it makes us read.
void LazyClient::accept_header() {
  Header header = decode_header(std::span(header_).first(header_size(peer_.layout)), peer_.layout);
  const Request& request = requests_.front();
  if (header.command != Command::kAddFlags || (header.flags & kPresent) == 0) {
    throw FormatError("an answer with command {} and flags {:#x} instead of pages",
                      static_cast<unsigned>(header.command), header.flags);
  }
  if (header.dst_id != request.pid || header.address != request.range.address || header.pages == 0 ||
      header.pages > request.range.pages) {
    throw FormatError("an answer of {} pages at {:#x} of {}, but asked was for {} pages at {:#x} of {}",
                      header.pages, header.address, header.dst_id, request.range.pages, request.range.address,
                      request.pid);
  }
  pages_ = header.pages;
}

void LazyClient::close() {
  ErrorContext context{"page server {}", peer_.stream->peer()};
  Header header;
  header.command = Command::kClose;
  EncodedHeader encoded(header, peer_.layout);
  peer_.stream->write(encoded.bytes());
  int32_t status = 0;
  peer_.stream->set_timeout(kCloseTimeout);
  peer_.stream->read_exactly(writable_bytes_of(status), "the server's answer to CLOSE");
  if (status != 0) throw Error("it answered CLOSE with status {}", status);
  peer_.stream->end(kEndTimeout);
}

}  // namespace godwit::pageserver
