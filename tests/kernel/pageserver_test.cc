#include <doctest/doctest.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <future>
#include <map>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/units.h"
#include "engine/images/image_directory.h"
#include "engine/images/pagemap.h"
#include "pageserver/client.h"
#include "pageserver/connections.h"
#include "pageserver/directory_store.h"
#include "pageserver/image_source.h"
#include "pageserver/lazy_client.h"
#include "pageserver/lazy_server.h"
#include "pageserver/server.h"
#include "tests/support/certificates.h"
#include "tests/support/temporary_directory.h"
#include "tls/plain_stream.h"
#include "tls/session.h"

namespace godwit::pageserver {
namespace {

using kinds::PageImageId;
using kinds::PageRange;
using Bytes = std::vector<std::byte>;
using Milliseconds = std::chrono::milliseconds;

constexpr PageImageId kTask{PageImageId::Type::kTask, 42};
constexpr PageImageId kMemory{PageImageId::Type::kSharedMemory, 7};
constexpr uint64_t kBase = 0x7f0000000000;

std::string failure_of(auto&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Bytes from_hex(const std::string& text) {
  Bytes bytes;
  std::string digits;
  for (char c : text) {
    if (c != ' ') digits += c;
  }
  for (size_t i = 0; i < digits.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(digits.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

// The page at an address: every one differs.
Bytes page_at(uint64_t address) {
  Bytes page(kPageSize, static_cast<std::byte>(address >> 12 & 0xff));
  std::memcpy(page.data(), &address, sizeof(address));
  return page;
}

Bytes pages_at(uint64_t address, uint64_t count) {
  Bytes bytes;
  for (uint64_t i = 0; i < count; ++i) {
    Bytes page = page_at(address + i * kPageSize);
    bytes.insert(bytes.end(), page.begin(), page.end());
  }
  return bytes;
}

// What a sink was told, as text: "open 42", "pages 0x... + 3", ...
struct Received {
  std::vector<std::string> calls;
  std::map<uint64_t, Bytes> contents;  // by address
  bool finished = false;
  std::string fail_at;  // the call that throws
};

class RecordingSink final : public kinds::PageSink {
 public:
  explicit RecordingSink(Received& received) : received_(received) {}
  bool open(PageImageId id) override {
    note(fmt::format("open {}{}", id.type == PageImageId::Type::kTask ? "" : "shm ", id.id));
    return id == kTask;
  }
  void add_in_parent(PageRange range) override {
    note(fmt::format("parent {:#x} + {}", range.address, range.pages));
  }
  void add_lazy(PageRange range) override {
    note(fmt::format("lazy {:#x} + {}", range.address, range.pages));
  }
  std::span<std::byte> buffer() override { return buffer_; }
  void add_pages(PageRange range, bool may_be_lazy) override {
    note(fmt::format("pages{} {:#x} + {}", may_be_lazy ? "?" : "", range.address, range.pages));
    for (uint64_t i = 0; i < range.pages; ++i) {
      auto page = std::span(buffer_).subspan(i * kPageSize, kPageSize);
      received_.contents[range.address + i * kPageSize] = Bytes(page.begin(), page.end());
    }
  }
  void close() override { note("close"); }
  void finish() override {
    note("finish");
    received_.finished = true;
  }

 private:
  void note(const std::string& call) {
    if (call == received_.fail_at) throw Error("no space for {}", call);
    received_.calls.push_back(call);
  }
  Received& received_;
  Bytes buffer_ = Bytes(kBufferPages * kPageSize);
};

Store recording_store(Received& received) {
  return {[&received] { return std::make_unique<RecordingSink>(received); },
          [](PageImageId id) { return id == kMemory; }};
}

// Certificates of all tests here, made once.
struct Pki {
  test::TemporaryDirectory directory;
  test::CertificateAuthority authority{directory.path(), "ca"};
  test::CertificateFiles host = authority.issue({.name = "host", .ip_addresses = {"127.0.0.1"}});
  tls::CredentialFiles files{.ca = authority.certificate(), .certificate = host.certificate, .key = host.key};
  std::shared_ptr<const tls::Credentials> credentials = std::make_shared<const tls::Credentials>(files);
};
const Pki& pki() {
  static const Pki instance;
  return instance;
}

// One connection of a server of ours on a port of its own, on another thread. result() is what it threw, or
// empty.
class ServerThread {
 public:
  ServerThread(std::function<void(tls::Stream&)> serve, bool secure = false)
      : result_(std::async(std::launch::async, [this, serve = std::move(serve), secure] {
          return failure_of([&] {
            auto connection = listener_.accept(Milliseconds{20'000});
            if (!connection) throw Error("nobody came");
            serve(*accept_stream(std::move(*connection), secure ? pki().credentials : nullptr));
          });
        })) {}
  uint16_t port() const { return listener_.port(); }
  std::string result() { return result_.get(); }

 private:
  Listener listener_{"127.0.0.1", 0};
  std::future<std::string> result_;
};

ServerThread receiving_server(Received& received, bool secure = false, PatienceLimits limits = {}) {
  return ServerThread(
      [&received, limits](tls::Stream& stream) { receive_pages(stream, recording_store(received), limits); },
      secure);
}

PeerOptions peer_options(uint16_t port, bool secure = false) {
  PeerOptions options;
  options.address = "127.0.0.1";
  options.port = port;
  options.tls = secure;
  options.credentials = pki().files;
  return options;
}

// A stock peer: says and expects exact bytes.
class Script {
 public:
  explicit Script(uint16_t port) : stream_(connect_tcp("127.0.0.1", port, Milliseconds{5000})) { patience(); }
  explicit Script(tls::Connection connection) : stream_(std::move(connection)) { patience(); }
  Script& send(const std::string& hex) { return send(from_hex(hex)); }
  Script& send(const Bytes& bytes) {
    stream_.write(bytes);
    return *this;
  }
  Script& expect(const std::string& hex) { return expect(from_hex(hex)); }
  Script& expect(const Bytes& bytes) {
    Bytes got(bytes.size());
    stream_.read_exactly(got, "script");
    CHECK(got == bytes);
    return *this;
  }
  Script& silence(Milliseconds time) {
    std::byte byte;
    CHECK_FALSE(stream_.read_within({&byte, 1}, time).has_value());
    return *this;
  }
  void end() { CHECK(stream_.end(Milliseconds{5000})); }
  tls::Stream& stream() { return stream_; }

 private:
  void patience() { stream_.set_timeout(Milliseconds{20'000}); }
  tls::PlainStream stream_;
};

const std::vector<std::string> kConversation = {"open 42",
                                                "pages? 0x7f0000001000 + 2",
                                                "parent 0x7f0000003000 + 3",
                                                "lazy 0x7f0000010000 + 16",
                                                "close",
                                                "open shm 7",
                                                "pages 0x0 + 1",
                                                "close",
                                                "finish"};

TEST_CASE("the conversation of a stock client before 4.2, byte for byte") {
  Received received;
  ServerThread server = receiving_server(received);
  Script client(server.port());
  client.send("05000000 00000000 0000000000000000 0207000000000000").expect("01000000");  // PARENT
  client.send("04000000 00000000 0000000000000000 012a000000000000").expect("01");        // OPEN2
  client.send("06000600 02000000 0010000000 7f0000 012a000000000000").send(pages_at(kBase + 0x1000, 2));
  client.send("06000100 03000000 0030000000 7f0000 012a000000000000");
  client.send("06000200 10000000 0000010000 7f0000 012a000000000000");
  client.send("04000000 00000000 0000000000000000 0207000000000000").expect("00");
  client.send("06000400 01000000 0000000000000000 0207000000000000").send(pages_at(0, 1));
  client.send("23100000 00000000 0000000000000000 0000000000000000").expect("00000000");  // CLOSE
  client.end();
  CHECK(server.result() == "");
  CHECK(received.calls == kConversation);
  CHECK(received.contents.at(kBase + 0x2000) == page_at(kBase + 0x2000));
  CHECK(received.contents.at(0) == page_at(0));
}

TEST_CASE("the conversation of a stock client of 4.2, with garbage in the padding") {
  Received received;
  ServerThread server = receiving_server(received);
  Script client(server.port());
  client.send("04000000 5a5a5a5a 0000000000000000 0000000000000000 012a000000000000").expect("01");
  client.send("06000600 5a5a5a5a 0200000000000000 0010000000 7f0000 012a000000000000");
  client.send(pages_at(kBase + 0x1000, 2));
  client.send("06000100 ffffffff 0300000000000000 0030000000 7f0000 012a000000000000");
  client.send("06000200 00000000 1000000000000000 0000010000 7f0000 012a000000000000");
  client.send("04000000 01010101 0000000000000000 0000000000000000 0207000000000000").expect("00");
  client.send("06000400 00000000 0100000000000000 0000000000000000 0207000000000000").send(pages_at(0, 1));
  client.send("24100000 00000000 0000000000000000 0000000000000000 0000000000000000").expect("00000000");
  client.end();
  CHECK(server.result() == "");
  CHECK(received.calls == kConversation);
}

TEST_CASE(
    "the commands of ancient clients: OPEN without an answer, ADD, HOLE, old type numbers, no OPEN at all") {
  Received received;
  ServerThread server = receiving_server(received);
  Script client(server.port());
  client.send("03000000 00000000 0000000000000000 112a000000000000");
  client.send("01000000 01000000 0010000000 7f0000 112a000000000000").send(pages_at(kBase + 0x1000, 1));
  client.send("02000000 04000000 0020000000 7f0000 112a000000000000");
  client.send("02000000 01000000 0000000000000000 2007000000000000");
  client.send("23100000 00000000 0000000000000000 0000000000000000").expect("00000000");
  client.end();
  CHECK(server.result() == "");
  CHECK(received.calls == std::vector<std::string>{"open 42", "pages 0x7f0000001000 + 1",
                                                   "parent 0x7f0000002000 + 4", "close", "open shm 7",
                                                   "parent 0x0 + 1", "close", "finish"});
}

TEST_CASE("a lone CLOSE is answered in both layouts") {
  for (const char* rest : {"", "0000000000000000"}) {
    Received received;
    ServerThread server = receiving_server(received);
    Script client(server.port());
    client.send("23100000 00000000 0000000000000000 0000000000000000" + std::string(rest)).expect("00000000");
    client.end();
    CHECK(server.result() == "");
    CHECK(received.calls.empty());
  }
}

TEST_CASE("what is no client, or lies, is refused by name and nothing is finished") {
  struct Case {
    const char* what;
    std::vector<std::string> messages;
    const char* reason;
  };
  const std::string open = "04000000 00000000 0000000000000000 012a000000000000";
  const std::vector<Case> cases = {
      {"garbage", {"474554202f20485454502f312e310d0a486f73743a206100"}, "not a page-server client"},
      {"silence", {}, "without a command"},
      {"half a header", {"04000000 0000"}, "page-server header ends early"},
      {"no CLOSE", {open}, "before its CLOSE"},
      {"GET", {"07000000 01000000 0010000000 7f0000 2a00000000000000"}, "only receives"},
      {"unknown type", {"04000000 00000000 0000000000000000 092a000000000000"}, "unknown image type 9"},
      {"unknown flags",
       {open, "06000800 01000000 0010000000 7f0000 012a000000000000"},
       "unknown pagemap flags 0x8"},
      {"unaligned", {open, "06000400 01000000 0110000000 7f0000 012a000000000000"}, "not page aligned"},
      {"no pages", {open, "06000400 00000000 0010000000 7f0000 012a000000000000"}, "no pages"},
      {"backwards",
       {open, "06000100 02000000 0010000000 7f0000 012a000000000000",
        "06000100 01000000 0020000000 7f0000 012a000000000000"},
       "not behind"},
      {"opened twice", {open, "04000000 00000000 0000000000000000 0207000000000000", open}, "opened twice"},
      {"data cut off",
       {open, "06000400 02000000 0010000000 7f0000 012a000000000000 1234"},
       "the pages ends early"},
  };
  for (const Case& entry : cases) {
    CAPTURE(entry.what);
    Received received;
    ServerThread server = receiving_server(received);
    {
      Script client(server.port());
      for (const std::string& message : entry.messages) client.send(message);
      client.stream().end(Milliseconds{2000});
    }
    std::string result = server.result();
    CAPTURE(result);
    CHECK(contains(result, "client 127.0.0.1:"));
    CHECK(contains(result, entry.reason));
    CHECK_FALSE(received.finished);
  }
}

TEST_CASE("a client that says nothing, or stops in mid-header, is not waited for") {
  for (const char* start : {"", "0400"}) {
    Received received;
    ServerThread server = receiving_server(received, false, {Milliseconds{50}, Milliseconds{50}});
    Script client(server.port());
    if (*start != '\0') client.send(start);
    CHECK(contains(server.result(), "for 50 ms"));
  }
}

// Our client against our server, plain and TLS, in every layout.
TEST_CASE("pages go from our client into our server") {
  for (bool secure : {false, true}) {
    for (LayoutChoice layout : {LayoutChoice::kProbe, LayoutChoice::kShort, LayoutChoice::kLong}) {
      CAPTURE(secure);
      CAPTURE(static_cast<int>(layout));
      Received received;
      ServerThread server = receiving_server(received, secure);
      PeerOptions options = peer_options(server.port(), secure);
      options.layout = layout;
      options.probe_timeout = Milliseconds{20'000};  // ours answers a short question at once
      Client client(connect(options));
      CHECK(client.has_parent(kMemory));
      CHECK_FALSE(client.has_parent(kTask));
      CHECK(client.open(kTask));
      uint64_t address = kBase;
      for (uint64_t pages : {1, 256, 17, 256, 256, 256, 256, 256, 256, 3}) {
        Bytes bytes = pages_at(address, pages);
        std::ranges::copy(bytes, client.buffer().begin());
        client.add_pages({address, pages}, pages == 17);
        address += (pages + 1) * kPageSize;
      }
      client.add_in_parent({address, 5});
      client.add_lazy({address + 5 * kPageSize, uint64_t{1} << 20});
      client.close();
      CHECK_FALSE(client.open(kMemory));
      client.close();
      client.finish();
      CHECK(server.result() == "");
      CHECK(received.finished);
      CHECK(received.contents.size() == 1 + 256 + 17 + 6 * 256 + 256 + 3 - 256);
      for (const auto& [where, page] : received.contents) REQUIRE(page == page_at(where));
      CHECK(contains(received.calls[3], "pages? "));
    }
  }
}

TEST_CASE("the probe: a stock server before 4.2 answers the 24 bytes") {
  ServerThread server([](tls::Stream& stream) {
    Script script(tls::Connection{Fd(check(::dup(stream.fd()), "dup")), "script"});
    script.expect("05000000 00000000 0000000000000000 0101000000000000").send("00000000");
    script.expect("04000000 00000000 0000000000000000 012a000000000000").send("01");
    script.expect("06000600 02000000 0010000000 7f0000 012a000000000000").expect(pages_at(kBase + 0x1000, 2));
    script.expect("23100000 00000000 0000000000000000 0000000000000000").send("00000000");
    script.end();
  });
  PeerOptions options = peer_options(server.port());
  options.probe_timeout = Milliseconds{20'000};
  Client client(connect(options));
  CHECK(client.open(kTask));
  std::ranges::copy(pages_at(kBase + 0x1000, 2), client.buffer().begin());
  client.add_pages({kBase + 0x1000, 2}, true);
  client.close();
  client.finish();
  CHECK(server.result() == "");
}

TEST_CASE("the probe: a stock server of 4.2 waits for eight more bytes and then answers") {
  ServerThread server([](tls::Stream& stream) {
    Script script(tls::Connection{Fd(check(::dup(stream.fd()), "dup")), "script"});
    // What it reads as its long header: vaddr is the first dst_id, which PARENT ignores.
    script.expect("05000000 00000000 0000000000000000 0101000000000000 0101000000000000").send("00000000");
    script.expect("04000000 00000000 0000000000000000 0000000000000000 012a000000000000").send("00");
    script.expect("06000400 00000000 0100000000000000 0010000000 7f0000 012a000000000000");
    script.expect(pages_at(kBase + 0x1000, 1));
    script.expect("23100000 00000000 0000000000000000 0000000000000000 0000000000000000").send("00000000");
    script.end();
  });
  PeerOptions options = peer_options(server.port());
  options.probe_timeout = Milliseconds{100};
  Client client(connect(options));
  CHECK_FALSE(client.open(kTask));
  std::ranges::copy(pages_at(kBase + 0x1000, 1), client.buffer().begin());
  client.add_pages({kBase + 0x1000, 1}, false);
  client.close();
  client.finish();
  CHECK(server.result() == "");
}

// A stock server reads a header with one record, and pages up to 64 KiB marks: gnutls gives one record per
// read here.
TEST_CASE("over TLS headers are records of their own and pages never cross 64 KiB marks") {
  std::vector<size_t> sizes;
  ServerThread server(
      [&](tls::Stream& stream) {
        Bytes record(64 * kKiB);
        size_t total = 0;
        const size_t goal = 32 + 32 + 40 * kPageSize + 32 + kPageSize;
        while (total < goal) {
          size_t size = stream.read_some(record);
          if (total == 0) stream.write(bytes_of(uint8_t{0}));
          sizes.push_back(size);
          total += size;
        }
      },
      true);
  Client client(connect(peer_options(server.port(), true)));
  client.open(kTask);
  client.buffer();
  client.add_pages({kBase, 40}, false);
  client.buffer();
  client.add_pages({kBase + 80 * kPageSize, 1}, false);
  client.close();
  CHECK(server.result() == "");
  std::vector<size_t> expected = {32, 32};
  expected.insert(expected.end(), 10, 16 * kKiB);
  expected.insert(expected.end(), {32, kPageSize});
  CHECK(sizes == expected);
}

TEST_CASE("a client learns that the server could not store") {
  Received received;
  received.fail_at = "finish";
  ServerThread server = receiving_server(received);
  Client client(connect(peer_options(server.port())));
  client.open(kTask);
  client.close();
  std::string failure = failure_of([&] { client.finish(); });
  CHECK(contains(failure, fmt::format("page server 127.0.0.1:{}: ", server.port())));
  CHECK(contains(server.result(), "no space for finish"));
}

TEST_CASE("a status of a failed CLOSE is a failure") {
  ServerThread server([](tls::Stream& stream) {
    Script script(tls::Connection{Fd(check(::dup(stream.fd()), "dup")), "script"});
    script.expect("05000000 00000000 0000000000000000 0101000000000000").send("00000000");
    script.expect("23100000 00000000 0000000000000000 0000000000000000").send("fbffffff");
    script.end();
  });
  {
    Client client(connect(peer_options(server.port())));
    CHECK(contains(failure_of([&] { client.finish(); }), "could not store the pages (status -5)"));
  }
  CHECK(server.result() == "");
}

TEST_CASE("a server that dies in mid-stream fails the client's next calls") {
  for (bool secure : {false, true}) {
    CAPTURE(secure);
    Received received;
    received.fail_at = fmt::format("pages {:#x} + 256", kBase + 2 * kMiB);
    ServerThread server = receiving_server(received, secure);
    Client client(connect(peer_options(server.port(), secure)));
    client.open(kTask);
    std::string failure = failure_of([&] {
      for (uint64_t i = 0; i < 4096; ++i) {
        client.buffer();
        client.add_pages({kBase + i * kMiB, 256}, false);
      }
      client.close();
      client.finish();
    });
    CHECK(contains(failure, "page server 127.0.0.1:"));
    CHECK(contains(server.result(), "no space for"));
    CHECK_FALSE(received.finished);
  }
}

TEST_CASE("a client that goes away without finish leaves nothing finished") {
  Received received;
  ServerThread server = receiving_server(received);
  {
    Client client(connect(peer_options(server.port())));
    client.open(kTask);
    client.buffer();
    client.add_pages({kBase, 256}, false);
    client.close();
  }
  CHECK(contains(server.result(), "CLOSE"));
  CHECK_FALSE(received.finished);
}

TEST_CASE("connecting says to whom and why it failed") {
  uint16_t port = Listener("127.0.0.1", 0).port();  // nobody listens there any more
  CHECK(failure_of([&] { connect(peer_options(port)); }) ==
        fmt::format("page server 127.0.0.1:{}: Connection refused", port));
  PeerOptions nowhere = peer_options(port);
  nowhere.address = "no-such-host.invalid";
  CHECK(contains(failure_of([&] { connect(nowhere); }), "resolve no-such-host.invalid: "));
  Listener taken("127.0.0.1", 0);
  CHECK(failure_of([&] { Listener("127.0.0.1", taken.port()); }) ==
        fmt::format("listen on 127.0.0.1:{}: Address already in use", taken.port()));
}

TEST_CASE("a listener without an address takes both families, names resolve") {
  Listener listener("", 0);
  for (const char* address : {"127.0.0.1", "localhost", "::1"}) {
    CAPTURE(address);
    auto client = connect_tcp(address, listener.port(), Milliseconds{5000});
    auto accepted = listener.accept(Milliseconds{5000});
    REQUIRE(accepted.has_value());
  }
  CHECK_FALSE(listener.accept(Milliseconds{10}).has_value());
}

TEST_CASE("many clients at once, until the listener stops") {
  Listener listener("127.0.0.1", 0);
  std::mutex mutex;
  std::vector<Received> all(3);
  size_t next = 0;
  auto serving = std::async(std::launch::async, [&] {
    serve_connections(listener, nullptr, [&](tls::Stream& stream) {
      Received* received;
      {
        std::lock_guard lock(mutex);
        received = &all.at(next++);
      }
      receive_pages(stream, recording_store(*received));
    });
  });
  {
    Client first(connect(peer_options(listener.port())));
    Client second(connect(peer_options(listener.port())));
    first.open(kTask);
    second.open(kTask);
    second.close();
    second.finish();
    first.close();
    first.finish();
  }
  Client idle(connect(peer_options(listener.port())));
  listener.stop();
  serving.get();  // the idle one does not hold it up
  CHECK(all[0].finished);
  CHECK(all[1].finished);
}

// Pages 0..99 of kBase for pid 42, in runs of ten.
class CountingSource final : public kinds::PageSource {
 public:
  uint64_t read(PageImageId id, PageRange range, std::span<std::byte> buffer) override {
    if (id != kTask) throw Error("no task {}", id.id);
    if (range.address < kBase || range.address >= kBase + 100 * kPageSize) return 0;
    uint64_t index = (range.address - kBase) / kPageSize;
    uint64_t count = std::min(range.pages, 10 - index % 10);
    std::ranges::copy(pages_at(range.address, count), buffer.begin());
    return count;
  }
};

ServerThread lazy_server(LazyReport& report, bool secure = false) {
  return ServerThread(
      [&report](tls::Stream& stream) {
        CountingSource source;
        report = serve_lazily(stream, source);
      },
      secure);
}

TEST_CASE("a stock daemon asks in either layout and gets header and pages") {
  LazyReport report;
  {
    ServerThread server = lazy_server(report);
    Script daemon(server.port());
    daemon.send("07000000 02000000 0010000000 7f0000 2a00000000000000");
    daemon.expect("06000400 02000000 0010000000 7f0000 2a00000000000000").expect(pages_at(kBase + 0x1000, 2));
    daemon.send("07000000 14000000 0080000000 7f0000 2a00000000000000");  // 20 asked, 2 left in the run
    daemon.expect("06000400 02000000 0080000000 7f0000 2a00000000000000").expect(pages_at(kBase + 0x8000, 2));
    daemon.send("23100000 00000000 0000000000000000 0000000000000000").expect("00000000");
    daemon.end();
    CHECK(server.result() == "");
    CHECK(report.end == LazyEnd::kClosed);
    CHECK(report.pages == 4);
  }
  ServerThread server = lazy_server(report);
  Script daemon(server.port());
  daemon.send("07000000 00000000 0200000000000000 0010000000 7f0000 2a00000000000000");
  daemon.expect("06000400 00000000 0200000000000000 0010000000 7f0000 2a00000000000000");
  daemon.expect(pages_at(kBase + 0x1000, 2));
  daemon.send("24100000 00000000 0000000000000000 0000000000000000 0000000000000000").expect("00000000");
  daemon.end();
  CHECK(server.result() == "");
  CHECK(report.end == LazyEnd::kClosed);
}

TEST_CASE("a lazy server tells a clean end from a lost one") {
  struct Case {
    std::string message;
    const char* reason;
  };
  const std::string get = "07000000 01000000 0010000000 7f0000 2a00000000000000";
  for (const Case& entry :
       {Case{get, "without CLOSE"},
        Case{"07000000 01000000 0000001000 7f0000 2a00000000000000", "not served here"},
        Case{"07000000 01000000 0010000000 7f0000 2b00000000000000", "no task 43"},
        Case{"04000000 00000000 0000000000000000 012a000000000000", "only gives them out"}}) {
    LazyReport report;
    ServerThread server = lazy_server(report);
    {
      Script daemon(server.port());
      daemon.send(entry.message);
      daemon.stream().end(Milliseconds{2000});
    }
    server.result();
    CAPTURE(report.reason);
    CHECK(report.end == LazyEnd::kLost);
    CHECK(contains(report.reason, entry.reason));
  }
}

TEST_CASE("our lazy client keeps several requests in flight, plain and TLS") {
  for (bool secure : {false, true}) {
    CAPTURE(secure);
    LazyReport report;
    ServerThread server = lazy_server(report, secure);
    LazyClient client(connect(peer_options(server.port(), secure)));
    for (uint64_t i : {50, 0, 99, 20}) client.send_request(42, {kBase + i * kPageSize, 15});
    for (auto [i, pages] : std::vector<std::pair<uint64_t, uint64_t>>{{50, 10}, {0, 10}, {99, 1}, {20, 10}}) {
      auto answer = client.receive(Milliseconds{20'000});
      CHECK(answer.pid == 42);
      CHECK(answer.asked.pages == 15);
      CHECK(answer.range == PageRange{kBase + i * kPageSize, pages});
      Bytes bytes(answer.bytes.begin(), answer.bytes.end());
      CHECK(bytes == pages_at(answer.range.address, pages));
    }
    CHECK(client.outstanding() == 0);
    CHECK_FALSE(client.receive_if_ready().has_value());
    client.close();
    CHECK(server.result() == "");
    CHECK(report.end == LazyEnd::kClosed);
    CHECK(report.pages == 31);
  }
}

TEST_CASE("a lazy client does not believe an answer that fits no request") {
  for (const char* answer : {"06000400 02000000 0010000000 7f0000 2a00000000000000",     // more than asked
                             "06000400 01000000 0020000000 7f0000 2a00000000000000",     // elsewhere
                             "06000400 01000000 0010000000 7f0000 2b00000000000000",     // of another task
                             "06000400 00000000 0010000000 7f0000 2a00000000000000",     // nothing
                             "06000200 01000000 0010000000 7f0000 2a00000000000000"}) {  // without contents
    ServerThread server([&](tls::Stream& stream) {
      Script script(tls::Connection{Fd(check(::dup(stream.fd()), "dup")), "script"});
      script.expect("07000000 01000000 0010000000 7f0000 2a00000000000000").send(answer);
      script.stream().end(Milliseconds{2000});
    });
    PeerOptions options = peer_options(server.port());
    options.layout = LayoutChoice::kShort;
    {
      LazyClient client(connect(options));
      client.send_request(42, {kBase + 0x1000, 1});
      CHECK_THROWS_AS(client.receive(Milliseconds{20'000}), FormatError);
    }
    server.result();
  }
}

// Sends `pages` pages of pid 42 into the directory; what the client and the server said.
std::pair<std::string, std::string> send_into(const std::string& directory, uint64_t pages) {
  ServerThread server([&](tls::Stream& stream) { receive_pages(stream, directory_store(directory)); });
  std::string client_said = failure_of([&] {
    Client client(connect(peer_options(server.port())));
    client.open(kTask);
    for (uint64_t i = 0; i < pages; i += 256) {
      std::ranges::copy(pages_at(kBase + i * kPageSize, 256), client.buffer().begin());
      client.add_pages({kBase + i * kPageSize, 256}, true);
    }
    client.add_lazy({kBase + pages * kPageSize, 4});
    client.close();
    client.finish();
  });
  return {client_said, server.result()};
}

TEST_CASE("received images are page images as criu writes them, and are served again") {
  test::TemporaryDirectory directory;
  auto [client_said, server_said] = send_into(directory.path(), 512);
  CHECK(client_said == "");
  CHECK(server_said == "");
  CHECK(std::filesystem::file_size(directory / "pages-65537.img") == 512 * kPageSize);
  auto images = images::ImageDirectory::open(directory.path());
  auto map = images::read_pagemap(images.open(images::Kind::kPagemap, 42));
  CHECK(map.entries == std::vector<images::PagemapEntry>{{kBase, 512, 6}, {kBase + 512 * kPageSize, 4, 2}});

  ImageSource source(images);
  Bytes bytes(20 * kPageSize);
  CHECK(source.read(kTask, {kBase + 500 * kPageSize, 20}, bytes) == 12);
  bytes.resize(12 * kPageSize);
  CHECK(bytes == pages_at(kBase + 500 * kPageSize, 12));
  CHECK(source.read(kTask, {kBase + 512 * kPageSize, 1}, bytes) == 0);  // lazy: not here
  CHECK(source.read(kTask, {kBase - kPageSize, 1}, bytes) == 0);
  CHECK(contains(failure_of([&] {
                   source.read({PageImageId::Type::kTask, 43}, {kBase, 1}, bytes);
                 }),
                 "pagemap-43.img"));
}

TEST_CASE("a parent directory is found through its link, and only images in it count") {
  test::TemporaryDirectory directory;
  std::filesystem::create_directory(directory / "1");
  std::filesystem::create_directory(directory / "2");
  std::filesystem::create_symlink("../1", directory / "2/parent");
  CHECK(send_into(directory / "1", 256).first == "");
  Store store = directory_store(directory / "2");
  CHECK(store.has_parent(kTask));
  CHECK_FALSE(store.has_parent(kMemory));
  CHECK_FALSE(directory_store(directory / "1").has_parent(kTask));
}

// In a process of its own, because its mount namespace is.
int fill_small_disk(const std::string& directory) {
  if (::unshare(CLONE_NEWNS) < 0 || ::mount("", "/", "", MS_REC | MS_PRIVATE, nullptr) < 0 ||
      ::mount("none", directory.c_str(), "tmpfs", 0, "size=2m") < 0) {
    return 77;
  }
  auto [client_said, server_said] = send_into(directory, 4096);
  if (!contains(client_said, "page server 127.0.0.1:")) return 1;
  if (!contains(server_said, "No space left on device")) return 2;
  return std::filesystem::is_empty(directory) ? 0 : 3;
}

TEST_CASE("a full disk fails the client and leaves no image") {
  test::TemporaryDirectory directory;
  pid_t pid = ::fork();
  if (pid == 0) ::_exit(fill_small_disk(directory.path()));
  int status = 0;
  ::waitpid(pid, &status, 0);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

}  // namespace
}  // namespace godwit::pageserver
