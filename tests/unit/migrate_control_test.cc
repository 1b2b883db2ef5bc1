#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <fstream>
#include <thread>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "migrate/agent.h"
#include "migrate/control_channel.h"
#include "migrate/image_transfer.h"
#include "tests/support/temporary_directory.h"
#include "tls/plain_stream.h"

namespace godwit::migrate {
namespace {

constexpr std::chrono::milliseconds kPatience{10'000};

struct Ends {
  SocketPair pair = SocketPair::create(SOCK_STREAM);
  tls::PlainStream ours{{std::move(pair.first), "ours"}};
  tls::PlainStream theirs{{std::move(pair.second), "theirs"}};
};

void send_raw(tls::Stream& stream, uint32_t length, std::string_view body) {
  stream.write({bytes_of(length), std::as_bytes(std::span(body))});
}

TEST_CASE("messages arrive as they were sent, and nothing behind them is read") {
  Ends ends;
  ControlChannel sender(ends.ours), receiver(ends.theirs);
  pb::control_message message;
  message.mutable_hello()->set_version(7);
  message.mutable_hello()->set_id("m1");
  sender.send(message);
  ends.ours.write(std::as_bytes(std::span("raw", 3)));
  auto received = receiver.receive(kPatience);
  CHECK(received.hello().version() == 7);
  CHECK(body_name(received) == "hello");
  std::array<std::byte, 3> rest;
  ends.theirs.read_exactly(rest, "rest");
  CHECK(rest[0] == std::byte{'r'});
}

TEST_CASE("a length beyond the limit is refused before anything is allocated") {
  Ends ends;
  send_raw(ends.ours, kMaxControlBytes + 1, "");
  CHECK_THROWS_AS(ControlChannel(ends.theirs).receive(kPatience), FormatError);
}

TEST_CASE("what is too large is not sent") {
  Ends ends;
  pb::control_message message;
  message.mutable_probe()->set_answer(false);
  message.mutable_probe()->set_payload(std::string(kMaxControlBytes, 'x'));
  CHECK_THROWS_AS(ControlChannel(ends.ours).send(message), Error);
}

TEST_CASE("nonsense, empty and incomplete messages are refused") {
  for (std::string_view body : {"\xff\xff\xff\xff", "", "\x0a\x00"}) {
    Ends ends;
    send_raw(ends.ours, static_cast<uint32_t>(body.size()), body);
    CHECK_THROWS_AS(ControlChannel(ends.theirs).receive(kPatience), FormatError);
  }
}

TEST_CASE("the end between messages is an end, within one an error") {
  {
    Ends ends;
    ends.ours.end(std::chrono::milliseconds{0});
    CHECK_FALSE(ControlChannel(ends.theirs).receive_if_open(kPatience));
  }
  Ends ends;
  send_raw(ends.ours, 100, "short");
  ends.ours.end(std::chrono::milliseconds{0});
  CHECK_THROWS_AS(ControlChannel(ends.theirs).receive(kPatience), FormatError);
}

TEST_CASE("only small images may be sent") {
  for (const char* name : {"inventory.img", "core-42.img", "pstree.img", "files.img", "pipes-data.img"}) {
    CHECK_MESSAGE(is_small_image_name(name), name);
  }
  for (const char* name :
       {"", ".", "..", "../core-42.img", "/etc/passwd", "core-42.img/x", "journal", "lock", "pages-1.img",
        "pagemap-42.img", "pagemap-shmem-1.img", "stats-dump", "core-42.img.tmp", "parent"}) {
    CHECK_MESSAGE(!is_small_image_name(name), name);
  }
}

pb::image_part part(const std::string& name, const std::string& contents, bool last = true) {
  pb::image_part result;
  result.set_name(name);
  result.set_contents(contents);
  result.set_last(last);
  return result;
}

struct Receiving {
  test::TemporaryDirectory directory;
  Fd fd = open_at(AT_FDCWD, directory.path(), O_RDONLY | O_DIRECTORY);
  ImageReceiver receiver{fd.get()};
};

TEST_CASE("images come in parts, and the inventory completes them") {
  Receiving r;
  r.receiver.add(part("core-42.img", "one", false));
  r.receiver.add(part("core-42.img", "two"));
  CHECK_FALSE(r.receiver.complete());
  r.receiver.add(part("inventory.img", "x"));
  CHECK(r.receiver.complete());
  CHECK(read_file(r.fd.get(), "core-42.img") == "onetwo");
}

TEST_CASE("images in an order that no source has are refused") {
  Receiving r;
  r.receiver.add(part("core-42.img", "one", false));
  CHECK_THROWS_AS(r.receiver.add(part("core-43.img", "x")), FormatError);
  r.receiver.add(part("core-42.img", ""));
  CHECK_THROWS_AS(r.receiver.add(part("core-42.img", "again")), FormatError);
  CHECK_THROWS_AS(r.receiver.add(part("../journal", "x")), FormatError);
  r.receiver.add(part("inventory.img", "x"));
  CHECK_THROWS_AS(r.receiver.add(part("core-44.img", "late")), FormatError);
}

TEST_CASE("an image is never written through a link") {
  Receiving r;
  REQUIRE(::symlink("/tmp/elsewhere", (r.directory / "core-42.img").c_str()) == 0);
  CHECK_THROWS_AS(r.receiver.add(part("core-42.img", "x")), SystemError);
}

TEST_CASE("a directory is sent whole, without pages, the inventory last") {
  test::TemporaryDirectory from;
  std::string large(kImagePartBytes, 'y');
  for (auto& [name, text] : {std::pair<std::string, std::string>{"inventory.img", "i"},
                             {"core-42.img", large},
                             {"pages-1.img", "p"},
                             {"fs-42.img", ""}}) {
    std::ofstream(from / name) << text;
  }
  Fd fd = open_at(AT_FDCWD, from.path(), O_RDONLY | O_DIRECTORY);
  Ends ends;
  Receiving r;
  std::thread sender([&] {
    ControlChannel channel(ends.ours);
    CHECK(send_images(channel, fd.get()) == kImagePartBytes + 1);
  });
  ControlChannel channel(ends.theirs);
  while (!r.receiver.complete()) r.receiver.add(channel.receive(kPatience).image_part());
  sender.join();
  CHECK(read_file(r.fd.get(), "core-42.img") == large);
  CHECK(read_file(r.fd.get(), "fs-42.img").empty());
  CHECK_FALSE(read_file_if_exists(r.fd.get(), "pages-1.img"));
}

TEST_CASE("the common name of a subject") {
  CHECK(common_name("CN=host-a,O=example") == "host-a");
  CHECK(common_name("O=example,CN=host-a") == "host-a");
  CHECK(common_name("O=a\\,CN=forged,CN=real") == "real");
  CHECK(common_name("O=example") == "");
  CHECK(common_name("") == "");
}

}  // namespace
}  // namespace godwit::migrate
