#pragma once

#include <memory>

#include "engine/kinds/file_kind.h"

namespace godwit::sockets {

// TCP and UDP over IPv4 and IPv6: INETSK entries. Listening, bound and unbound TCP sockets, UDP sockets
// connected or not. With Policy::tcp_close established connections come back closed: reads find the end,
// writes give EPIPE.
std::unique_ptr<kinds::FileKind> make_inet_socket_kind();

}  // namespace godwit::sockets
