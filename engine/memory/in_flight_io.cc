#include "engine/memory/in_flight_io.h"

#include <dirent.h>
#include <fcntl.h>

#include <memory>

#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/kernel/text_fields.h"

namespace godwit::memory {
namespace {

constexpr std::string_view kRing = "anon_inode:[io_uring]";
constexpr std::string_view kAnIoUring = "an io_uring";

bool has_ring_descriptor(pid_t pid) {
  std::unique_ptr<DIR, int (*)(DIR*)> fds(::opendir(fmt::format("/proc/{}/fd", pid).c_str()), ::closedir);
  if (!fds) throw SystemError(errno, "opendir(/proc/{}/fd)", pid);
  while (const dirent* entry = ::readdir(fds.get())) {
    if (entry->d_name[0] == '.') continue;
    auto target = read_link_if_exists(::dirfd(fds.get()), entry->d_name);
    if (target && *target == kRing) return true;
  }
  return false;
}

}  // namespace

std::string_view in_flight_io_of_maps(std::string_view maps) {
  while (!maps.empty()) {
    std::string_view line = kernel::take_until(maps, '\n');
    // The sixth word is the name, which may hold blanks: a file called "x /[aio]" is not a ring.
    for (int i = 0; i < 5; ++i) kernel::take_word(line);
    size_t begin = line.find_first_not_of(' ');
    if (begin == std::string_view::npos) continue;
    std::string_view name = line.substr(begin);
    if (name.starts_with("/[aio]")) return "an AIO ring";
    if (name.starts_with(kRing)) return kAnIoUring;
  }
  return "";
}

std::string in_flight_io_of_status(std::string_view status) {
  while (!status.empty()) {
    std::string_view line = kernel::take_until(status, '\n');
    if (!line.starts_with("VmPin:")) continue;
    line.remove_prefix(6);
    std::string_view number = kernel::take_word(line);
    if (kernel::parse_number<uint64_t>(number, "VmPin") == 0) return "";
    return fmt::format("{} kB pinned for a device", number);
  }
  return "";
}

std::string in_flight_io(pid_t pid) {
  std::string folder = fmt::format("/proc/{}/", pid);
  if (std::string pinned = in_flight_io_of_status(read_file(AT_FDCWD, folder + "status")); !pinned.empty())
    return pinned;
  if (has_ring_descriptor(pid)) return std::string(kAnIoUring);
  return std::string(in_flight_io_of_maps(read_file(AT_FDCWD, folder + "maps")));
}

}  // namespace godwit::memory
