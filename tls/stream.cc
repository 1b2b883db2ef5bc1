#include "tls/stream.h"

#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <limits>

#include "engine/base/units.h"

namespace godwit::tls {
namespace {

using Clock = std::chrono::steady_clock;

// What is left until a deadline, as the argument of poll(2); rounded up, so that 0 means that it has passed.
int poll_argument(std::optional<Clock::time_point> deadline) {
  if (!deadline) return -1;
  auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - Clock::now()).count();
  if (left <= 0) return 0;
  return left > std::numeric_limits<int>::max() ? std::numeric_limits<int>::max() : static_cast<int>(left);
}

std::optional<Clock::time_point> deadline_after(Stream::Timeout timeout) {
  if (!timeout) return std::nullopt;
  return Clock::now() + *timeout;
}

bool poll_until(int fd, short events, std::optional<Clock::time_point> deadline) {
  for (;;) {
    pollfd entry{fd, events, 0};
    int argument = poll_argument(deadline);
    int count = ::poll(&entry, 1, argument);
    if (count > 0) return true;
    if (count < 0 && errno != EINTR) throw SystemError(errno, "poll");
    if (count == 0 && argument == 0) return false;
  }
}

}  // namespace

std::optional<size_t> Stream::read_within(Bytes bytes, Timeout timeout) {
  auto deadline = deadline_after(timeout);
  for (;;) {
    if (auto count = try_read(bytes)) return count;
    if (!poll_until(fd(), POLLIN, deadline)) return std::nullopt;
  }
}

size_t Stream::read_some(Bytes bytes) {
  if (auto count = read_within(bytes, timeout_)) return *count;
  throw TimeoutError("nothing came for {} ms", timeout_->count());
}

void Stream::read_exactly(Bytes bytes, const char* what) {
  for (size_t done = 0; done < bytes.size();) {
    size_t count = read_some(bytes.subspan(done));
    if (count == 0) throw FormatError("{} ends early: {} of {} bytes", what, done, bytes.size());
    done += count;
  }
}

bool Stream::wait_for_input(Timeout timeout) const {
  return wait(POLLIN, timeout);
}

void Stream::abort() noexcept {
  ::shutdown(fd(), SHUT_RDWR);
}

bool Stream::wait(short events, Timeout timeout) const {
  return poll_until(fd(), events, deadline_after(timeout));
}

void Stream::wait_or_throw(short events) const {
  if (!wait(events, timeout_)) throw TimeoutError("the peer took nothing for {} ms", timeout_->count());
}

bool Stream::shut_down(Milliseconds timeout) noexcept {
  if (shared()) return true;
  if (::shutdown(fd(), SHUT_WR) < 0) return false;
  auto deadline = Clock::now() + timeout;
  std::array<std::byte, 16 * kKiB> dropped;
  for (;;) {
    ssize_t count = ::recv(fd(), dropped.data(), dropped.size(), MSG_DONTWAIT);
    if (count == 0) return true;
    if (Clock::now() >= deadline) return false;  // also a peer that never stops sending
    if (count > 0 || errno == EINTR) continue;
    if (errno != EAGAIN) return false;
    pollfd entry{fd(), POLLIN, 0};
    if (::poll(&entry, 1, poll_argument(deadline)) < 0 && errno != EINTR) return false;
  }
}

}  // namespace godwit::tls
