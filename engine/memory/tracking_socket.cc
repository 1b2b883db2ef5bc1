#include "engine/memory/tracking_socket.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/unix_message.h"

namespace godwit::memory {
namespace {

constexpr size_t kProcessesPerPacket = 128;
static_assert(kProcessesPerPacket <= kMaxMessageDescriptors);
constexpr uint32_t kMagic = 0x67645431;  // "gdT1": another version of us is no peer
constexpr timeval kPatience{10, 0};

struct PacketHeader {
  uint32_t magic = kMagic;
  uint32_t count = 0;      // processes in this packet
  uint64_t remaining = 0;  // processes in the packets after it
};

struct Packet {
  PacketHeader header;
  std::array<ProcessIdentity, kProcessesPerPacket> processes;
};

struct Address {
  sockaddr_un address{};
  socklen_t size = 0;
};

Address address_of(const std::string& path) {
  Address result;
  result.address.sun_family = AF_UNIX;
  if (path.size() >= sizeof result.address.sun_path) throw Error("socket address too long: {}", path);
  std::memcpy(result.address.sun_path, path.data(), path.size());
  // An abstract address is as long as it is said to be; a path ends with a zero.
  size_t length = path[0] == '\0' ? path.size() : path.size() + 1;
  result.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  return result;
}

std::string path_in(int directory, const char* name) {
  return fmt::format("/proc/self/fd/{}/{}", directory, name);
}

Fd new_socket() {
  return Fd(check(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), "socket(AF_UNIX)"));
}

std::optional<Fd> connect_to(const std::string& path, const char* name) {
  Fd socket = new_socket();
  Address to = address_of(path);
  check(::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience), "SO_RCVTIMEO");
  check(::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience), "SO_SNDTIMEO");
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&to.address), to.size) != 0) {
    if (errno == ENOENT || errno == ECONNREFUSED) return std::nullopt;
    throw SystemError(errno, "connect({})", name);
  }
  if (!peer_is_trusted(socket)) throw Error("{} belongs to another user", name);
  return socket;
}

bool send_packet(const Fd& connection, const Packet& packet, std::span<const TrackedProcess> processes) {
  size_t size = offsetof(Packet, processes) + processes.size() * sizeof(ProcessIdentity);
  std::vector<int> userfaults;
  for (const auto& process : processes) userfaults.push_back(process.userfaults.get());
  return send_message(connection.get(), bytes_of(packet).first(size), userfaults) ==
         static_cast<ssize_t>(size);
}

// Takes ownership of what came with a message, whatever it is.
// One packet's processes; returns how many follow in later packets, nothing when it is not as it must be.
std::optional<uint64_t> receive_packet(const Fd& connection, std::vector<TrackedProcess>& out) {
  Packet packet;
  auto [size, fds] = receive_message(connection.get(), writable_bytes_of(packet));
  if (size < 0) return std::nullopt;
  if (static_cast<size_t>(size) < sizeof(PacketHeader) || packet.header.magic != kMagic) return std::nullopt;
  size_t count = packet.header.count;
  if (count > kProcessesPerPacket || fds.size() != count ||
      static_cast<size_t>(size) != offsetof(Packet, processes) + count * sizeof(ProcessIdentity)) {
    return std::nullopt;
  }
  for (size_t i = 0; i < count; ++i) out.push_back({packet.processes[i], std::move(fds[i])});
  return packet.header.remaining;
}

}  // namespace

Fd listen_in_directory(int directory, const char* name) {
  Fd socket = new_socket();
  Address at = address_of(path_in(directory, name));
  check(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&at.address), at.size), "bind({})", name);
  check(::listen(socket.get(), 4), "listen({})", name);
  return socket;
}

std::optional<Fd> listen_abstract(const std::string& name) {
  Fd socket = new_socket();
  Address at = address_of('\0' + name);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&at.address), at.size) != 0) {
    if (errno == EADDRINUSE) return std::nullopt;
    throw SystemError(errno, "bind(@{})", name);
  }
  check(::listen(socket.get(), 4), "listen(@{})", name);
  return socket;
}

std::optional<Fd> connect_in_directory(int directory, const char* name) {
  return connect_to(path_in(directory, name), name);
}
std::optional<Fd> connect_abstract(const std::string& name) {
  return connect_to('\0' + name, name.c_str());
}

bool peer_is_trusted(const Fd& connection) {
  ucred peer{};
  socklen_t size = sizeof peer;
  check(::getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size), "SO_PEERCRED");
  return peer.uid == ::geteuid() || peer.uid == 0;
}

bool send_processes(const Fd& connection, const std::vector<TrackedProcess>& processes) {
  std::span<const TrackedProcess> rest(processes);
  do {
    auto now = rest.first(std::min(rest.size(), kProcessesPerPacket));
    rest = rest.subspan(now.size());
    Packet packet{};
    packet.header.count = static_cast<uint32_t>(now.size());
    packet.header.remaining = rest.size();
    for (size_t i = 0; i < now.size(); ++i) packet.processes[i] = now[i].identity;
    if (!send_packet(connection, packet, now)) return false;
  } while (!rest.empty());
  return true;
}

std::optional<std::vector<TrackedProcess>> receive_processes(const Fd& connection) {
  std::vector<TrackedProcess> result;
  for (uint64_t remaining = 1; remaining > 0;) {
    auto left = receive_packet(connection, result);
    if (!left) return std::nullopt;
    remaining = *left;
  }
  // The holder closes when it is about to end and has removed its socket.
  std::byte byte;
  if (::recv(connection.get(), &byte, 1, 0) != 0) return std::nullopt;
  return result;
}

}  // namespace godwit::memory
