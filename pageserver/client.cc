#include "pageserver/client.h"

#include <array>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/units.h"

namespace godwit::pageserver {
namespace {

constexpr std::chrono::milliseconds kAnswerTimeout{120'000};
// The server may have gigabytes to bring to its disk; keepalive finds a dead one earlier.
constexpr std::chrono::milliseconds kStoreTimeout{1'800'000};
constexpr std::chrono::milliseconds kSendTimeout{120'000};
constexpr std::chrono::milliseconds kEndTimeout{5'000};

// Runs an action on the stream; a broken connection is told in the words of an operator.
void on_stream(auto&& action) {
  try {
    action();
  } catch (const SystemError& error) {
    if (error.code() != EPIPE && error.code() != ECONNRESET) throw;
    throw Error("the server broke off the connection ({}); its log says why",
                SystemError::errno_text(error.code()));
  }
}

}  // namespace

Client::Client(Peer peer)
    : peer_(std::move(peer)),
      pipeline_([this](std::span<const EntryPipeline::Entry> entries) { send(entries); }) {
  peer_.stream->set_timeout(kSendTimeout);
}

Client::~Client() {
  // The server must not take this for a whole dump; also frees a sender that waits for a stuck server.
  if (!finished_) peer_.stream->abort();
}

bool Client::has_parent(kinds::PageImageId id) {
  ErrorContext context{"page server {}", peer_.stream->peer()};
  int32_t answer = 0;
  request(Command::kParent, encode_image_id(id), writable_bytes_of(answer), kAnswerTimeout);
  if (answer < 0) throw Error("asked for the parent of image {}: failure {}", id.id, answer);
  return answer != 0;
}

bool Client::open(kinds::PageImageId id) {
  ErrorContext context{"page server {}", peer_.stream->peer()};
  uint64_t dst_id = encode_image_id(id);
  std::array<std::byte, 1> answer{};
  request(Command::kOpen2, dst_id, answer, kAnswerTimeout);
  image_ = dst_id;
  return answer[0] != std::byte{0};
}

void Client::add_in_parent(kinds::PageRange range) {
  ErrorContext context{"page server {}", peer_.stream->peer()};
  count(0);
  pipeline_.add(range, kInParent);
}

void Client::add_lazy(kinds::PageRange range) {
  ErrorContext context{"page server {}", peer_.stream->peer()};
  count(0);
  pipeline_.add(range, kLazy);
}

std::span<std::byte> Client::buffer() {
  ErrorContext context{"page server {}", peer_.stream->peer()};
  return pipeline_.buffer();
}

void Client::add_pages(kinds::PageRange range, bool may_be_lazy) {
  ErrorContext context{"page server {}", peer_.stream->peer()};
  count(range.pages);
  pipeline_.add_pages(range, may_be_lazy ? kPresent | kLazy : kPresent);
}

void Client::close() {
  ErrorContext context{"page server {}", peer_.stream->peer()};
  pipeline_.drain();
  image_ = 0;
}

void Client::finish() {
  ErrorContext context{"page server {}", peer_.stream->peer()};
  int32_t status = 0;
  request(Command::kClose, 0, writable_bytes_of(status), kStoreTimeout);
  if (status != 0) throw Error("it could not store the pages (status {})", status);
  peer_.stream->end(kEndTimeout);
  finished_ = true;
}

void Client::count(uint64_t pages) {
  if (image_ == 0) throw Error("pages without an open image");
  bytes_sent_ += header_size(peer_.layout) + pages * kPageSize;
}

// Asks and waits; the sender is idle meanwhile, so the stream is this thread's.
void Client::request(Command command, uint64_t dst_id, std::span<std::byte> answer,
                     tls::Stream::Timeout timeout) {
  pipeline_.drain();
  Header header;
  header.command = command;
  header.dst_id = dst_id;
  EncodedHeader encoded(header, peer_.layout);
  bytes_sent_ += encoded.bytes().size();
  tls::Stream& stream = *peer_.stream;
  on_stream([&] {
    stream.write(encoded.bytes());
    stream.set_timeout(timeout);
    read_answer(stream, answer);
    stream.set_timeout(kSendTimeout);
  });
}

// A server that takes our header for another layout hangs up without a word, over TLS where none can be
// probed.
void Client::read_answer(tls::Stream& stream, std::span<std::byte> answer) {
  try {
    stream.read_exactly(answer, "the server's answer");
  } catch (const FormatError&) {
    if (answered_ || peer_.layout != Layout::kLong) throw;
    throw Error(
        "it closed the connection without an answer: is it of CRIU before 4.2? Then use --ps-layout short");
  }
  answered_ = true;
}

// On the pipeline's thread.
void Client::send(std::span<const EntryPipeline::Entry> entries) {
  std::vector<EncodedHeader> headers;
  std::vector<tls::Stream::ConstBytes> parts;
  headers.reserve(entries.size());  // parts point into it
  for (const EntryPipeline::Entry& entry : entries) {
    Header header{Command::kAddFlags, entry.flags, entry.range.pages, entry.range.address, image_};
    parts.push_back(headers.emplace_back(header, peer_.layout).bytes());
    parts.push_back(entry.contents);
  }
  on_stream([&] { peer_.stream->write(parts); });
}

}  // namespace godwit::pageserver
