#include "engine/base/fd.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine/base/error.h"

namespace godwit {
namespace {

template <class Call>
auto retry_on_eintr(Call call) {
  for (;;) {
    auto result = call();
    if (result >= 0 || errno != EINTR) return result;
  }
}

std::string read_open_file(int fd, const std::string& path, size_t limit) {
  std::string text;
  size_t used = 0;
  for (;;) {
    if (text.size() - used < 4096) text.resize(std::max<size_t>(8192, text.size() * 2));
    ssize_t count = check(retry_on_eintr([&] { return ::read(fd, text.data() + used, text.size() - used); }),
                          "read({})", path);
    if (count == 0) break;
    used += static_cast<size_t>(count);
    if (used > limit) throw Error("{}: larger than the {} bytes that are allowed here", path, limit);
  }
  text.resize(used);
  return text;
}

}  // namespace

void Fd::reset(int fd) {
  int old = std::exchange(fd_, fd);
  if (old >= 0 && old != fd) ::close(old);
}

Fd Fd::duplicate() const {
  return Fd(check(::fcntl(fd_, F_DUPFD_CLOEXEC, 0), "fcntl({}, F_DUPFD_CLOEXEC)", fd_));
}

Fd open_at(int dir, const std::string& path, int flags, mode_t mode) {
  return Fd(check(retry_on_eintr([&] { return ::openat(dir, path.c_str(), flags | O_CLOEXEC, mode); }),
                  "openat({})", path));
}

std::optional<Fd> open_if_exists(int dir, const std::string& path, int flags) {
  int fd = retry_on_eintr([&] { return ::openat(dir, path.c_str(), flags | O_CLOEXEC); });
  if (fd < 0 && errno == ENOENT) return std::nullopt;
  return Fd(check(fd, "openat({})", path));
}

Pipe Pipe::create(int flags) {
  int ends[2];
  check(::pipe2(ends, flags | O_CLOEXEC), "pipe2");
  return {Fd(ends[0]), Fd(ends[1])};
}

SocketPair SocketPair::create(int type) {
  int ends[2];
  check(::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends), "socketpair");
  return {Fd(ends[0]), Fd(ends[1])};
}

size_t read_up_to(int fd, std::span<std::byte> bytes, const char* what) {
  size_t done = 0;
  while (done < bytes.size()) {
    ssize_t count =
        check(retry_on_eintr([&] { return ::read(fd, bytes.data() + done, bytes.size() - done); }),
              "read({})", what);
    if (count == 0) break;
    done += static_cast<size_t>(count);
  }
  return done;
}

void read_exactly(int fd, std::span<std::byte> bytes, const char* what) {
  size_t done = read_up_to(fd, bytes, what);
  if (done < bytes.size()) throw FormatError("{} ends early: {} of {} bytes", what, done, bytes.size());
}

void pread_exactly(int fd, std::span<std::byte> bytes, off_t offset, const char* what) {
  size_t done = 0;
  while (done < bytes.size()) {
    ssize_t count = check(retry_on_eintr([&] {
                            return ::pread(fd, bytes.data() + done, bytes.size() - done,
                                           offset + static_cast<off_t>(done));
                          }),
                          "pread({})", what);
    if (count == 0)
      throw FormatError("{} ends early: {} of {} bytes at {}", what, done, bytes.size(), offset);
    done += static_cast<size_t>(count);
  }
}

void write_all(int fd, std::span<const std::byte> bytes, const char* what) {
  size_t done = 0;
  while (done < bytes.size()) {
    done += static_cast<size_t>(
        check(retry_on_eintr([&] { return ::write(fd, bytes.data() + done, bytes.size() - done); }),
              "write({})", what));
  }
}

void pwrite_all(int fd, std::span<const std::byte> bytes, off_t offset, const char* what) {
  size_t done = 0;
  while (done < bytes.size()) {
    done += static_cast<size_t>(check(retry_on_eintr([&] {
                                        return ::pwrite(fd, bytes.data() + done, bytes.size() - done,
                                                        offset + static_cast<off_t>(done));
                                      }),
                                      "pwrite({})", what));
  }
}

std::string read_file(int dir, const std::string& path, size_t limit) {
  return read_open_file(open_at(dir, path, O_RDONLY).get(), path, limit);
}

std::optional<std::string> read_file_if_exists(int dir, const std::string& path, size_t limit) {
  auto fd = open_if_exists(dir, path, O_RDONLY);
  if (!fd) return std::nullopt;
  return read_open_file(fd->get(), path, limit);
}

std::string read_link(int dir, const std::string& path) {
  if (auto target = read_link_if_exists(dir, path)) return *target;
  throw SystemError(ENOENT, "readlinkat({})", path);
}

std::optional<std::string> read_link_if_exists(int dir, const std::string& path) {
  std::string target(256, '\0');
  for (;;) {
    ssize_t length = ::readlinkat(dir, path.c_str(), target.data(), target.size());
    if (length < 0 && errno == ENOENT) return std::nullopt;
    check(length, "readlinkat({})", path);
    if (static_cast<size_t>(length) < target.size()) {
      target.resize(static_cast<size_t>(length));
      return target;
    }
    target.resize(target.size() * 2);
  }
}

}  // namespace godwit
