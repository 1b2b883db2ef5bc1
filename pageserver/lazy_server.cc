#include "pageserver/lazy_server.h"

#include <algorithm>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/base/mapping.h"
#include "engine/base/units.h"

namespace godwit::pageserver {
namespace {

// The largest piece that a stock daemon asks for at once; what is beyond it is asked for again.
constexpr uint64_t kMostPages = 1024;
constexpr std::chrono::milliseconds kEndTimeout{5'000};

class LazyServer {
 public:
  LazyServer(tls::Stream& stream, kinds::PageSource& source, PatienceLimits limits, LazyReport& report)
      : stream_(stream),
        source_(source),
        reader_(stream, limits),
        data_(Mapping::anonymous(kMostPages * kPageSize)),
        report_(report) {}

  void run() {
    while (auto header = reader_.next()) {
      switch (header->command) {
        case Command::kGet:
          answer(*header);
          break;
        case Command::kParent:  // how our clients find out the layout; a lazy source has no parent to speak
                                // of
          stream_.write(bytes_of(int32_t{0}));
          break;
        case Command::kClose:
        case Command::kForceClose:
          return close();
        default:
          throw FormatError("the client sends pages (command {}), and this page server only gives them out",
                            static_cast<unsigned>(header->command));
      }
    }
    throw FormatError("the connection ended without CLOSE");
  }

 private:
  void answer(const Header& question) {
    kinds::PageRange wanted = checked_range(question);
    ErrorContext context{"GET of pid {} at {:#x}", question.dst_id, wanted.address};
    wanted.pages = std::min(wanted.pages, kMostPages);
    kinds::PageImageId id{kinds::PageImageId::Type::kTask, question.dst_id};
    uint64_t pages = source_.read(id, wanted, data_.bytes().first(wanted.pages * kPageSize));
    if (pages == 0) throw FormatError("this page is not served here");
    Header header{Command::kAddFlags, kPresent, pages, question.address, question.dst_id};
    EncodedHeader encoded(header, reader_.layout());
    // Two parts, because a stock client reads header and pages from different TLS records.
    stream_.write({encoded.bytes(), data_.bytes().first(pages * kPageSize)});
    ++report_.requests;
    report_.pages += pages;
  }

  void close() {
    report_.end = LazyEnd::kClosed;
    try {
      stream_.write(bytes_of(int32_t{0}));
    } catch (const Error& error) {
      log::warning("page server: the client did not take the answer to CLOSE: {}", error.what());
    }
    stream_.end(kEndTimeout);
  }

  tls::Stream& stream_;
  kinds::PageSource& source_;
  CommandReader reader_;
  Mapping data_;
  LazyReport& report_;
};

}  // namespace

LazyReport serve_lazily(tls::Stream& stream, kinds::PageSource& source, PatienceLimits limits) {
  LazyReport report;
  try {
    ErrorContext context{"client {}", stream.peer()};
    LazyServer(stream, source, limits, report).run();
  } catch (const Error& error) {
    report.reason = error.what();
  }
  return report;
}

}  // namespace godwit::pageserver
