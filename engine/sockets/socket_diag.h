#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>

namespace godwit::sockets {

// What sock_diag(7) tells about an internet socket.
struct DiagSocket {
  uint8_t state = 0;     // TCP_*
  uint8_t shutdown = 0;  // bit 0: reading, bit 1: writing; no socket call tells this
  uint32_t receive_queue = 0, send_queue = 0;
};

// The internet sockets of our network namespace by inode. Asks the kernel for all sockets of a family and
// protocol when the first of them is wanted, and keeps the answer.
class SocketDiag {
 public:
  // Empty for a socket that the kernel does not list: one that is neither bound nor connected.
  // `protocol` is IPPROTO_TCP, IPPROTO_UDP, ...
  std::optional<DiagSocket> find(int family, int protocol, ino_t inode);

 private:
  using Table = std::unordered_map<ino_t, DiagSocket>;
  std::map<std::pair<int, int>, Table> tables_;
};

}  // namespace godwit::sockets
