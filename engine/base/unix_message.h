#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <vector>

#include "engine/base/fd.h"

namespace godwit {

// Messages over a unix socket that carry descriptors beside their bytes (SCM_RIGHTS, unix(7)).

// The kernel's limit on the descriptors of one message.
inline constexpr size_t kMaxMessageDescriptors = 253;

// sendmsg(2) with MSG_NOSIGNAL: its result, with errno where that is -1. The receiver gets duplicates.
ssize_t send_message(int socket, std::span<const std::byte> bytes, std::span<const int> descriptors);

struct ReceivedMessage {
  ssize_t size = 0;  // the result of recvmsg(2), with errno where it is -1; 0 at the end
  std::vector<Fd> descriptors;
};
// recvmsg(2), again after a signal; what it brings is close-on-exec. `flags` such as MSG_DONTWAIT.
ReceivedMessage receive_message(int socket, std::span<std::byte> bytes, int flags = 0);

}  // namespace godwit
