#include "pageserver/server.h"

#include <algorithm>
#include <optional>
#include <set>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/base/units.h"
#include "pageserver/pipelined_sink.h"

namespace godwit::pageserver {
namespace {

constexpr std::chrono::milliseconds kEndTimeout{5'000};
constexpr int32_t kStored = 0;

// One client that sends pages.
class Receiver {
 public:
  Receiver(tls::Stream& stream, const Store& store, PatienceLimits limits)
      : stream_(stream), store_(store), reader_(stream, limits) {}

  ReceiveReport run() {
    while (auto header = reader_.next()) {
      if (handle(*header)) return report_;
    }
    if (!any_command_) throw FormatError("the client went away without a command");
    throw FormatError("the client went away before its CLOSE: what it sent is dropped");
  }

 private:
  // True after the last command.
  bool handle(const Header& header) {
    any_command_ = true;
    switch (header.command) {
      case Command::kOpen:
        open(header.dst_id);
        return false;
      case Command::kOpen2: {
        bool has_parent = open(header.dst_id);
        stream_.write(bytes_of(static_cast<uint8_t>(has_parent)));
        return false;
      }
      case Command::kParent: {
        auto answer = static_cast<int32_t>(store_.has_parent(decode_image_id(header.dst_id)));
        stream_.write(bytes_of(answer));
        return false;
      }
      case Command::kAdd:
        add(header, kPresent);
        return false;
      case Command::kHole:
        add(header, kInParent);
        return false;
      case Command::kAddFlags:
        add(header, header.flags);
        return false;
      case Command::kClose:
      case Command::kForceClose:
        finish();
        return true;
      case Command::kGet:
        break;
    }
    throw FormatError("the client asks for pages (GET), and this page server only receives them");
  }

  bool open(uint64_t dst_id) {
    kinds::PageImageId id = decode_image_id(dst_id);
    if (!sink_) sink_ = std::make_unique<PipelinedSink>(store_.make_sink());
    if (image_) sink_->close();
    image_.reset();
    // A second image of the same id would silently replace the first.
    if (!opened_.insert(encode_image_id(id)).second) throw FormatError("image {} is opened twice", id.id);
    bool has_parent = sink_->open(id);
    image_ = id;
    end_ = 0;
    ++report_.images;
    log::debug("page server: image {} of {}, parent: {}", id.id,
               id.type == kinds::PageImageId::Type::kTask ? "a task" : "shared memory", has_parent);
    return has_parent;
  }

  void add(const Header& header, uint16_t flags) {
    kinds::PageRange range = checked_range(header);
    ErrorContext context{"pages {:#x} + {}", range.address, range.pages};
    // Ancient clients did not open what they add to.
    if (image_ != decode_image_id(header.dst_id)) open(header.dst_id);
    if (range.address < end_) throw FormatError("they are not behind the pages before them");
    end_ = range.address + range.pages * kPageSize;
    switch (flags) {
      case kPresent:
      case kPresent | kLazy:
        return receive(range, (flags & kLazy) != 0);
      case kInParent:
        report_.pages_in_parent += range.pages;
        return sink_->add_in_parent(range);
      case kLazy:
        report_.pages_lazy += range.pages;
        return sink_->add_lazy(range);
      default:
        throw FormatError("unknown pagemap flags {:#x}", flags);
    }
  }

  void receive(kinds::PageRange range, bool may_be_lazy) {
    report_.pages += range.pages;
    while (range.pages > 0) {
      std::span<std::byte> buffer = sink_->buffer();
      uint64_t count = std::min<uint64_t>(range.pages, buffer.size() / kPageSize);
      stream_.read_exactly(buffer.first(count * kPageSize), "the pages");
      sink_->add_pages({range.address, count}, may_be_lazy);
      range.address += count * kPageSize;
      range.pages -= count;
    }
  }

  void finish() {
    if (sink_) {
      if (image_) sink_->close();
      sink_->finish();
    }
    // From here on everything is stored, so a client that is gone already is no failure.
    try {
      stream_.write(bytes_of(kStored));
    } catch (const Error& error) {
      log::warning("page server: the client did not take the answer to CLOSE: {}", error.what());
    }
    // Waiting for the client's end keeps our port out of TIME_WAIT, and reads the rest of a long CLOSE.
    stream_.end(kEndTimeout);
  }

  tls::Stream& stream_;
  const Store& store_;
  CommandReader reader_;
  std::unique_ptr<kinds::PageSink> sink_;
  std::optional<kinds::PageImageId> image_;
  std::set<uint64_t> opened_;
  uint64_t end_ = 0;  // of the last range in the open image
  bool any_command_ = false;
  ReceiveReport report_;
};

}  // namespace

ReceiveReport receive_pages(tls::Stream& stream, const Store& store, PatienceLimits limits) {
  ErrorContext context{"client {}", stream.peer()};
  return Receiver(stream, store, limits).run();
}

}  // namespace godwit::pageserver
