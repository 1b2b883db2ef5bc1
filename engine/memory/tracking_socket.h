#pragma once

#include <optional>
#include <vector>

#include "engine/base/fd.h"
#include "engine/memory/tracking_holder.h"

// The sockets between a holder and the commands: sequenced packets, each with some processes and, in the same
// order, their userfaultfds. Both sides are this program on one machine; each side checks the other's user.
namespace godwit::memory {

// A listening socket with this name in the directory. The path goes through /proc/self/fd, as a socket
// address holds 107 bytes only and image directories may lie deep. Throws SystemError.
Fd listen_in_directory(int directory, const char* name);
// A listening socket with an abstract address; empty when that is taken.
std::optional<Fd> listen_abstract(const std::string& name);

// Empty when nobody listens there (no such file, or its owner has died). Throws SystemError for other
// failures, and Error when the listener runs as another user than we and is not root.
std::optional<Fd> connect_in_directory(int directory, const char* name);
std::optional<Fd> connect_abstract(const std::string& name);

// Whether the other end of a connection runs as our user or as root.
bool peer_is_trusted(const Fd& connection);

// Sends all; false when the other end is gone.
bool send_processes(const Fd& connection, const std::vector<TrackedProcess>& processes);
// Receives all, and then waits until the other end closes. Empty when it closed too early, or said nothing
// within a time that only a dead or stopped peer needs.
std::optional<std::vector<TrackedProcess>> receive_processes(const Fd& connection);

}  // namespace godwit::memory
