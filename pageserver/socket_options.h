#pragma once

namespace godwit::pageserver {

// What every page connection wants of its TCP socket: no delay of small messages, keepalive that finds a dead
// peer within two minutes. A socket of another family (--ps-socket) is left as it is.
void tune_socket(int socket);

}  // namespace godwit::pageserver
