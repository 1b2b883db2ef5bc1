#include "engine/memory/lazy_handover.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/base/unix_message.h"
#include "engine/memory/tracking_socket.h"

namespace godwit::memory {
namespace {

constexpr int32_t kRestoreFinished = 0x52535446;  // LAZY_PAGES_RESTORE_FINISHED; above every possible pid

Fd open_directory(const std::string& path) {
  return open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
}

Fd new_socket(int flags) {
  return Fd(check(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0), "socket(AF_UNIX)"));
}

// Through /proc/self/fd, as a socket address holds 107 bytes only and work directories may lie deep.
sockaddr_un address_in(const Fd& directory) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::string path = fmt::format("/proc/self/fd/{}/{}", directory.get(), kLazyPagesSocketName);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

// False when nobody listens there.
bool connect_in(const Fd& directory, const Fd& socket) {
  sockaddr_un address = address_in(directory);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return true;
  if (errno == ENOENT || errno == ECONNREFUSED) return false;
  throw SystemError(errno, "{}: connect", kLazyPagesSocketName);
}

void send_word(const Fd& socket, int32_t word) {
  check(::send(socket.get(), &word, sizeof word, MSG_NOSIGNAL), "{}: send", kLazyPagesSocketName);
}

void send_descriptor(const Fd& socket, int fd) {
  std::byte dummy{};
  check(send_message(socket.get(), std::span(&dummy, 1), std::span(&fd, 1)), "{}: sendmsg",
        kLazyPagesSocketName);
}

struct Piece {
  ssize_t size = 0;  // 0 at the end
  Fd descriptor;
};

// Nothing when nothing is there. A descriptor comes with the byte that it was sent with.
std::optional<Piece> receive_piece(const Fd& socket, std::span<std::byte> bytes) {
  auto message = receive_message(socket.get(), bytes, MSG_DONTWAIT);
  if (message.size < 0 && errno == EAGAIN) return std::nullopt;
  if (message.size < 0 && errno == ECONNRESET) message.size = 0;
  check(message.size, "{}: recvmsg", kLazyPagesSocketName);
  Piece piece{message.size, Fd()};
  if (message.descriptors.size() == 1) piece.descriptor = std::move(message.descriptors.front());
  return piece;
}

}  // namespace

LazyHandoverClient LazyHandoverClient::connect(const std::string& directory) {
  Fd socket = new_socket(0);
  if (!connect_in(open_directory(directory), socket)) {
    throw Error("{}: no lazy-pages daemon is listening here: start criu lazy-pages first",
                kLazyPagesSocketName);
  }
  if (!peer_is_trusted(socket)) throw Error("{} belongs to another user", kLazyPagesSocketName);
  return LazyHandoverClient(std::move(socket));
}

void LazyHandoverClient::send(pid_t pid, Fd userfaultfd) {
  ErrorContext context{"pid {}", pid};
  if (!userfaultfd) return skip(pid);
  send_word(socket_, pid);
  send_descriptor(socket_, userfaultfd.get());
}

void LazyHandoverClient::skip(pid_t pid) {
  send_word(socket_, -pid);
}

void LazyHandoverClient::finish() {
  send_word(socket_, kRestoreFinished);
}

std::optional<LazyHandover::Message> LazyHandover::receive_if_ready() {
  for (;;) {
    if (pid_) {
      std::byte byte;
      auto piece = receive_piece(socket_, std::span(&byte, 1));
      if (!piece) return std::nullopt;
      if (piece->size == 0) return Ended{};
      if (!piece->descriptor) {
        throw FormatError("{}: the userfaultfd of pid {} is missing", kLazyPagesSocketName, *pid_);
      }
      return Task{*std::exchange(pid_, std::nullopt), std::move(piece->descriptor)};
    }
    int32_t word = 0;
    auto piece = receive_piece(socket_, writable_bytes_of(word));
    if (!piece) return std::nullopt;
    if (piece->size == 0) return Ended{};
    // A word is sent whole, so a part of one is no word.
    if (piece->size != sizeof word || word == 0) {
      throw FormatError("{}: not a message of a restore", kLazyPagesSocketName);
    }
    if (word == kRestoreFinished) return Finished{};
    if (word > 0) pid_ = word;  // a negative one has no pages to come
  }
}

LazyHandoverListener::LazyHandoverListener(const std::string& directory)
    : directory_(open_directory(directory)), socket_(new_socket(SOCK_NONBLOCK)) {
  if (connect_in(directory_, new_socket(0))) {
    throw Error("{}: another lazy-pages daemon is listening here", kLazyPagesSocketName);
  }
  if (::unlinkat(directory_.get(), kLazyPagesSocketName, 0) != 0 && errno != ENOENT) {
    throw SystemError(errno, "unlink({})", kLazyPagesSocketName);
  }
  sockaddr_un address = address_in(directory_);
  check(::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), "bind({})",
        kLazyPagesSocketName);
  check(::listen(socket_.get(), 4), "listen({})", kLazyPagesSocketName);
}

LazyHandoverListener::~LazyHandoverListener() {
  ::unlinkat(directory_.get(), kLazyPagesSocketName, 0);
}

std::optional<LazyHandover> LazyHandoverListener::accept_if_ready() {
  Fd connection(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!connection) {
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return std::nullopt;
    throw SystemError(errno, "{}: accept", kLazyPagesSocketName);
  }
  if (!peer_is_trusted(connection)) {
    log::warning("{}: a connection of another user is refused", kLazyPagesSocketName);
    return std::nullopt;
  }
  return LazyHandover(std::move(connection));
}

}  // namespace godwit::memory
