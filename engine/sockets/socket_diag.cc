#include "engine/sockets/socket_diag.h"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <cstring>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/base/units.h"

namespace godwit::sockets {
namespace {

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 body;
};

void send_request(int fd, int family, int protocol) {
  Request request{};
  request.header.nlmsg_len = sizeof request;
  request.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request.body.sdiag_family = static_cast<uint8_t>(family);
  request.body.sdiag_protocol = static_cast<uint8_t>(protocol);
  request.body.idiag_states = ~0u;
  check(::send(fd, &request, sizeof request, 0), "send(sock_diag)");
}

DiagSocket parse_socket(const inet_diag_msg& message, size_t attribute_bytes) {
  DiagSocket socket{.state = message.idiag_state,
                    .receive_queue = message.idiag_rqueue,
                    .send_queue = message.idiag_wqueue};
  int left = static_cast<int>(attribute_bytes);
  auto* attribute = reinterpret_cast<const rtattr*>(&message + 1);
  for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
    if (attribute->rta_type != INET_DIAG_SHUTDOWN || RTA_PAYLOAD(attribute) < 1) continue;
    std::memcpy(&socket.shutdown, RTA_DATA(attribute), 1);
  }
  return socket;
}

// Takes the messages of one datagram; false after the last one of the answer.
template <class Table>
bool take_messages(std::span<const std::byte> bytes, Table& table) {
  auto left = static_cast<unsigned>(bytes.size());
  auto* header = reinterpret_cast<const nlmsghdr*>(bytes.data());
  for (; NLMSG_OK(header, left); header = NLMSG_NEXT(header, left)) {
    if (header->nlmsg_type == NLMSG_DONE) return false;
    if (header->nlmsg_type == NLMSG_ERROR) {
      auto* error = static_cast<const nlmsgerr*>(NLMSG_DATA(header));
      throw SystemError(-error->error, "sock_diag");
    }
    constexpr size_t kFixed = NLMSG_LENGTH(sizeof(inet_diag_msg));
    if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY || header->nlmsg_len < kFixed) continue;
    auto* message = static_cast<const inet_diag_msg*>(NLMSG_DATA(header));
    table[message->idiag_inode] = parse_socket(*message, header->nlmsg_len - kFixed);
  }
  return true;
}

}  // namespace

std::optional<DiagSocket> SocketDiag::find(int family, int protocol, ino_t inode) {
  auto [table, is_new] = tables_.try_emplace({family, protocol});
  if (is_new) {
    Fd fd(
        check(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG), "socket(NETLINK_SOCK_DIAG)"));
    send_request(fd.get(), family, protocol);
    alignas(nlmsghdr) std::array<std::byte, 64 * kKiB> buffer;
    for (bool more = true; more;) {
      ssize_t size = check(::recv(fd.get(), buffer.data(), buffer.size(), 0), "recv(sock_diag)");
      more = take_messages(std::span(buffer).first(static_cast<size_t>(size)), table->second);
    }
  }
  auto found = table->second.find(inode);
  if (found == table->second.end()) return std::nullopt;
  return found->second;
}

}  // namespace godwit::sockets
