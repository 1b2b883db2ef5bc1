#pragma once

namespace godwit::kinds {

// The options that kinds of objects look at, in a dump and in a restore.
struct Policy {
  bool tcp_close = false;  // established TCP connections come back closed
  bool shell_job = false;  // session, process group and one terminal come from criu itself
};

}  // namespace godwit::kinds
