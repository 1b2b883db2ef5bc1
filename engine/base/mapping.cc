#include "engine/base/mapping.h"

#include <sys/mman.h>

#include "engine/base/error.h"

namespace godwit {

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  if (this != &other) {
    if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
    bytes_ = std::exchange(other.bytes_, {});
  }
  return *this;
}

Mapping::~Mapping() {
  if (!bytes_.empty()) ::munmap(bytes_.data(), bytes_.size());
}

Mapping Mapping::map(size_t size, int protection, int flags, int fd, const char* what) {
  if (size == 0) return {};
  void* address = ::mmap(nullptr, size, protection, flags, fd, 0);
  if (address == MAP_FAILED) {
    int code = errno;
    throw SystemError(code, "mmap({}, {} bytes)", what, size);
  }
  return Mapping({static_cast<std::byte*>(address), size});
}

Mapping Mapping::anonymous(size_t size) {
  return map(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, "anonymous");
}

Mapping Mapping::shared_anonymous(size_t size) {
  return map(size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, "shared anonymous");
}

Mapping Mapping::of_file(int fd, size_t size, const char* what) {
  return map(size, PROT_READ, MAP_PRIVATE, fd, what);
}

}  // namespace godwit
