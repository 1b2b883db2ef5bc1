#include "tls/plain_stream.h"

#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <vector>

namespace godwit::tls {
namespace {

// Drops `count` sent bytes from the front of the list that starts at `first`; returns the new start.
size_t advance(std::vector<iovec>& pieces, size_t first, size_t count) {
  while (first < pieces.size() && count >= pieces[first].iov_len) count -= pieces[first++].iov_len;
  if (count > 0) {
    pieces[first].iov_base = static_cast<char*>(pieces[first].iov_base) + count;
    pieces[first].iov_len -= count;
  }
  return first;
}

}  // namespace

PlainStream::PlainStream(Connection connection) : Stream(std::move(connection)) {}

std::optional<size_t> PlainStream::try_read(Bytes bytes) {
  for (;;) {
    ssize_t count = ::recv(fd(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (count >= 0) return static_cast<size_t>(count);
    if (errno == EAGAIN) return std::nullopt;
    if (errno != EINTR) throw SystemError(errno, "recv");
  }
}

void PlainStream::write(std::span<const ConstBytes> parts) {
  std::vector<iovec> pieces;
  pieces.reserve(parts.size());
  for (ConstBytes part : parts) {
    if (!part.empty()) pieces.push_back({const_cast<std::byte*>(part.data()), part.size()});
  }
  for (size_t first = 0; first < pieces.size();) {
    msghdr message{};
    message.msg_iov = &pieces[first];
    message.msg_iovlen = std::min<size_t>(pieces.size() - first, IOV_MAX);
    ssize_t count = ::sendmsg(fd(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count >= 0) {
      first = advance(pieces, first, static_cast<size_t>(count));
    } else if (errno == EAGAIN) {
      wait_or_throw(POLLOUT);
    } else if (errno != EINTR) {
      throw SystemError(errno, "sendmsg");
    }
  }
}

bool PlainStream::end(Milliseconds timeout) noexcept {
  return shut_down(timeout);
}

}  // namespace godwit::tls
