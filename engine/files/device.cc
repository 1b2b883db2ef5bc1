#include "engine/files/device.h"

#include <sys/sysmacros.h>

#include "engine/files/path_file.h"

namespace godwit::files {
namespace {

// Documentation/admin-guide/devices.txt: major 1 is memory and what is made of nothing.
constexpr unsigned kMemoryMajor = 1;

// Devices that keep nothing per opener. 1 mem, 2 kmem and 4 port are windows into this very machine.
bool keeps_nothing(unsigned device_minor) {
  switch (device_minor) {
    case 3:  // null
    case 5:  // zero
    case 7:  // full
    case 8:  // random
    case 9:  // urandom
      return true;
    default:
      return false;
  }
}

class DeviceKind final : public PathFileKind {
 public:
  bool recognises(const kinds::OpenFile& file) const override {
    return S_ISCHR(file.status.st_mode) && major(file.status.st_rdev) == kMemoryMajor &&
           keeps_nothing(minor(file.status.st_rdev));
  }
};

}  // namespace

std::unique_ptr<kinds::FileKind> make_device_kind() {
  return std::make_unique<DeviceKind>();
}

}  // namespace godwit::files
