#include "engine/base/unix_message.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/socket.h>

#include <array>

#include "engine/base/bytes.h"

namespace godwit {
namespace {

TEST_CASE("descriptors travel beside the bytes, and are close-on-exec") {
  SocketPair sockets = SocketPair::create(SOCK_SEQPACKET);
  Pipe pipe = Pipe::create();
  std::array<int, 2> ends{pipe.read_end.get(), pipe.write_end.get()};
  int word = 42, seen = 0;
  REQUIRE(send_message(sockets.first.get(), bytes_of(word), ends) == sizeof word);
  auto message = receive_message(sockets.second.get(), writable_bytes_of(seen));
  CHECK(message.size == sizeof word);
  CHECK(seen == 42);
  REQUIRE(message.descriptors.size() == 2);
  CHECK(::fcntl(message.descriptors[0].get(), F_GETFD) == FD_CLOEXEC);
  write_all(message.descriptors[1].get(), bytes_of(word), "pipe");
  seen = 0;
  read_exactly(pipe.read_end.get(), writable_bytes_of(seen), "pipe");
  CHECK(seen == 42);
}

TEST_CASE("bytes alone, the end, and nothing yet") {
  SocketPair sockets = SocketPair::create(SOCK_STREAM);
  int word = 7, seen = 0;
  CHECK(receive_message(sockets.second.get(), writable_bytes_of(seen), MSG_DONTWAIT).size == -1);
  CHECK(errno == EAGAIN);
  REQUIRE(send_message(sockets.first.get(), bytes_of(word), {}) == sizeof word);
  CHECK(receive_message(sockets.second.get(), writable_bytes_of(seen)).descriptors.empty());
  sockets.first.reset();
  CHECK(receive_message(sockets.second.get(), writable_bytes_of(seen)).size == 0);
}

TEST_CASE("more descriptors than the kernel takes are refused, not cut") {
  SocketPair sockets = SocketPair::create(SOCK_STREAM);
  std::vector<int> many(kMaxMessageDescriptors + 1, sockets.first.get());
  int word = 7;
  CHECK(send_message(sockets.first.get(), bytes_of(word), many) == -1);
  CHECK(errno == EINVAL);
}

}  // namespace
}  // namespace godwit
