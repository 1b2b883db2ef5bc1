#pragma once

#include "engine/kinds/file_kind.h"
#include "engine/sockets/socket_diag.h"
#include "proto/images/sockets.pb.h"

namespace godwit::sockets {

// Whether it is a TCP or UDP socket, the ones that can be dumped.
bool is_inet_socket(const kinds::OpenFile& file);

// Reads everything about such a socket into `entry` (whose id is set). `diag` is asked about UDP sockets.
void collect_inet_socket(const kinds::OpenFile& file, const kinds::Policy& policy, SocketDiag& diag,
                         pb::inet_sk_entry& entry, kinds::Problems& problems);

}  // namespace godwit::sockets
