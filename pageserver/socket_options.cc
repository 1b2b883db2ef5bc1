#include "pageserver/socket_options.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "engine/base/error.h"
#include "engine/base/log.h"

namespace godwit::pageserver {
namespace {

constexpr int kKeepIdleSeconds = 30;
constexpr int kKeepIntervalSeconds = 10;
constexpr int kKeepProbes = 9;

void set(int socket, int level, int option, int value, const char* name) {
  if (::setsockopt(socket, level, option, &value, sizeof(value)) < 0) {
    log::warning("setsockopt({}): {}", name, SystemError::errno_text(errno));
  }
}

}  // namespace

void tune_socket(int socket) {
  int protocol = 0;
  socklen_t size = sizeof(protocol);
  if (::getsockopt(socket, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) < 0 || protocol != IPPROTO_TCP) return;
  set(socket, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY");
  set(socket, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE");
  set(socket, IPPROTO_TCP, TCP_KEEPIDLE, kKeepIdleSeconds, "TCP_KEEPIDLE");
  set(socket, IPPROTO_TCP, TCP_KEEPINTVL, kKeepIntervalSeconds, "TCP_KEEPINTVL");
  set(socket, IPPROTO_TCP, TCP_KEEPCNT, kKeepProbes, "TCP_KEEPCNT");
}

}  // namespace godwit::pageserver
