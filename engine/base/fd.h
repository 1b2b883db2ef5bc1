#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace godwit {

// Owns one file descriptor; closes it. Move-only; an empty one holds -1.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    reset(std::exchange(other.fd_, -1));
    return *this;
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  ~Fd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1);

  // A close-on-exec duplicate. Throws SystemError.
  Fd duplicate() const;

 private:
  int fd_ = -1;
};

// openat(2) with O_CLOEXEC added. `dir` is a descriptor or AT_FDCWD. Throws SystemError that names the path.
Fd open_at(int dir, const std::string& path, int flags, mode_t mode = 0);
// The same, but a file that is not there (ENOENT) is an empty optional.
std::optional<Fd> open_if_exists(int dir, const std::string& path, int flags);

struct Pipe {
  Fd read_end, write_end;
  // pipe2(2), close-on-exec.
  static Pipe create(int flags = 0);
};

struct SocketPair {
  Fd first, second;
  // socketpair(2), AF_UNIX, close-on-exec; `type` is SOCK_STREAM, SOCK_SEQPACKET, ...
  static SocketPair create(int type);
};

// Reads until `bytes` is full or the end; returns the number of bytes read. `what` names the object in
// errors.
size_t read_up_to(int fd, std::span<std::byte> bytes, const char* what);
// Reads exactly that much, or throws FormatError ("... ends early").
void read_exactly(int fd, std::span<std::byte> bytes, const char* what);
// The same at an offset of a seekable file, without moving its position.
void pread_exactly(int fd, std::span<std::byte> bytes, off_t offset, const char* what);
// Writes everything, at the position or at an offset. Throws SystemError.
void write_all(int fd, std::span<const std::byte> bytes, const char* what);
void pwrite_all(int fd, std::span<const std::byte> bytes, off_t offset, const char* what);

// The whole of a file (also of /proc, whose files have no size). Throws SystemError, or Error above `limit`
// bytes.
std::string read_file(int dir, const std::string& path, size_t limit = size_t{64} << 20);
std::optional<std::string> read_file_if_exists(int dir, const std::string& path,
                                               size_t limit = size_t{64} << 20);
// readlinkat(2) of any length.
std::string read_link(int dir, const std::string& path);
std::optional<std::string> read_link_if_exists(int dir, const std::string& path);

}  // namespace godwit
