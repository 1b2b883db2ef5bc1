#pragma once

#include <string>

#include "proto/images/sockets.pb.h"

// Socket options as images have them, read from a socket and set on one.
namespace godwit::sockets {

// A value of getsockopt and setsockopt; throws SystemError that names the option.
int get_option(int fd, int level, int option, const char* name);
void set_option(int fd, int level, int option, int value, const char* name);

// Options of every kind of socket (SOL_SOCKET). Throws RefusedError for a filter that cannot be read back
// (eBPF).
pb::sk_opts_entry collect_socket_options(int fd);
// Sets all but those that decide who may bind to an address: reuseaddr and so_reuseport.
void set_socket_options(int fd, const pb::sk_opts_entry& options);

pb::ip_opts_entry collect_ip_options(int fd, int family);
void set_ip_options(int fd, int family, const pb::ip_opts_entry& options);

pb::tcp_opts_entry collect_tcp_options(int fd);
void set_tcp_options(int fd, const pb::tcp_opts_entry& options);
// The options of a TCP socket that are set and that no image has a place for: "TCP_DEFER_ACCEPT,
// TCP_USER_TIMEOUT". Empty when there are none.
std::string tcp_options_without_place(int fd);

}  // namespace godwit::sockets
