#include "engine/files/unrecognised_file.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>

namespace godwit::files {
namespace {

constexpr std::string_view kAnonymousInode = "anon_inode:";

// "[io_uring]" and "inotify" alike: the kernel puts brackets around most.
std::string_view without_brackets(std::string_view name) {
  if (name.starts_with('[') && name.ends_with(']')) return name.substr(1, name.size() - 2);
  return name;
}

// "/run/x.sock", "@abstract", or nothing for an unnamed socket. `get` is getsockname or getpeername.
std::string unix_name(int fd, decltype(&::getsockname) get) {
  sockaddr_un address{};
  socklen_t length = sizeof address;
  if (get(fd, reinterpret_cast<sockaddr*>(&address), &length) < 0) return {};
  size_t used = std::min<size_t>(length, sizeof address) - offsetof(sockaddr_un, sun_path);
  if (used == 0 || used > sizeof address.sun_path) return {};
  if (address.sun_path[0] == '\0') return "@" + std::string(address.sun_path + 1, used - 1);
  return std::string(address.sun_path, ::strnlen(address.sun_path, used));
}

std::string describe_unix_socket(int fd) {
  std::string text = "unix socket";
  if (auto name = unix_name(fd, ::getsockname); !name.empty()) text += " " + name;
  if (auto peer = unix_name(fd, ::getpeername); !peer.empty()) text += " connected to " + peer;
  ucred creator{};
  socklen_t length = sizeof creator;
  // Of a socketpair or a connection: who made the other end. Of any other socket: nobody.
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &creator, &length) == 0 && creator.pid > 0) {
    text += fmt::format(" (other end made by pid {})", creator.pid);
  }
  return text + ": unix sockets are not available yet";
}

int socket_option(int fd, int option) {
  int value = 0;
  socklen_t length = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 ? value : -1;
}

std::string describe_socket(int fd) {
  int protocol = socket_option(fd, SO_PROTOCOL);
  switch (int family = socket_option(fd, SO_DOMAIN)) {
    case AF_UNIX:
      return describe_unix_socket(fd);
    case AF_NETLINK:
      return fmt::format("netlink socket (protocol {}): netlink sockets are not available yet", protocol);
    case AF_PACKET:
      return "packet socket: packet sockets are not available yet";
    case AF_INET:
    case AF_INET6:
      if (socket_option(fd, SO_TYPE) == SOCK_RAW) {
        return fmt::format("raw socket (protocol {}): raw sockets are not available yet", protocol);
      }
      return fmt::format("internet socket of protocol {}: only TCP and UDP can be dumped", protocol);
    default:
      return fmt::format("socket of address family {} cannot be dumped", family);
  }
}

std::string describe_device(const kinds::OpenFile& file) {
  if (::isatty(file.duplicate.get())) {
    return "is a terminal of a sort that cannot be dumped yet (only /dev/pts/N can, with --shell-job): "
           "redirect it "
           "(setsid, < /dev/null)";
  }
  unsigned device_major = major(file.status.st_rdev), device_minor = minor(file.status.st_rdev);
  constexpr unsigned kMiscMajor = 10, kTunMinor = 200;
  if (device_major == kMiscMajor && device_minor == kTunMinor) {
    return "tun/tap interfaces are not available yet";
  }
  return fmt::format("{} device {}:{} cannot be dumped", S_ISBLK(file.status.st_mode) ? "block" : "character",
                     device_major, device_minor);
}

}  // namespace

std::string why_not_recognised(const kinds::OpenFile& file) {
  std::string_view target = file.target;
  if (target.starts_with(kAnonymousInode)) {
    return fmt::format("{} cannot be dumped yet", without_brackets(target.substr(kAnonymousInode.size())));
  }
  if (target.starts_with("/memfd:")) return "memfd cannot be dumped yet";
  if (target.starts_with("/secretmem")) return "secret memory can never be read, so not dumped either";
  switch (file.status.st_mode & S_IFMT) {
    case S_IFSOCK:
      return describe_socket(file.duplicate.get());
    case S_IFCHR:
    case S_IFBLK:
      return describe_device(file);
    case S_IFIFO:
      return "named pipes (FIFOs) are not available yet";
    default:
      break;
  }
  // "net:[4026531840]" and the like.
  if (target.find(":[") != std::string_view::npos) {
    return fmt::format("descriptors of {} are not available yet", target.substr(0, target.find(':')));
  }
  return "is of no kind that can be dumped";
}

}  // namespace godwit::files
