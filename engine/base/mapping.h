#pragma once

#include <cstddef>
#include <span>
#include <utility>

namespace godwit {

// Owns one mmap(2) of our own address space; unmaps it. Move-only.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  Mapping& operator=(Mapping&& other) noexcept;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  // Private anonymous memory, readable and writable; not populated. Throws SystemError.
  static Mapping anonymous(size_t size);
  // Anonymous memory that children share.
  static Mapping shared_anonymous(size_t size);
  // A file's bytes, read-only and private. An empty file gives an empty mapping.
  static Mapping of_file(int fd, size_t size, const char* what);

  std::span<std::byte> bytes() const { return bytes_; }
  std::byte* data() const { return bytes_.data(); }
  size_t size() const { return bytes_.size(); }

 private:
  explicit Mapping(std::span<std::byte> bytes) : bytes_(bytes) {}
  static Mapping map(size_t size, int protection, int flags, int fd, const char* what);
  std::span<std::byte> bytes_;
};

}  // namespace godwit
