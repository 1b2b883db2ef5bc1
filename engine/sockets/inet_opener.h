#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "engine/base/fd.h"
#include "engine/kinds/policy.h"
#include "engine/kinds/problems.h"
#include "proto/images/sockets.pb.h"

namespace godwit::sockets {

// Makes sockets out of INETSK entries: all those of one restore, as sockets that share a port must let each
// other in while they are bound.
class InetOpener {
 public:
  // Checks an entry here: is its port free, its address ours? To be called for all entries before the first
  // open. Throws FormatError for an entry that is no TCP or UDP socket.
  void plan(const pb::inet_sk_entry& entry, const kinds::Policy& policy, kinds::Problems& problems);
  Fd open(const pb::inet_sk_entry& entry, const kinds::Policy& policy);

 private:
  // A socket that is bound, with the options that it gets when the last one of its port is.
  struct Bound {
    Fd fd;
    bool reuse_address = false, reuse_port = false;
  };
  struct Port {
    int planned = 0;
    std::vector<Bound> bound;
  };
  using PortKey = std::pair<uint32_t, uint32_t>;  // protocol, number

  void bind(int fd, const pb::inet_sk_entry& entry);
  void make_ready(int fd, const pb::inet_sk_entry& entry);
  void settle(int fd, const pb::inet_sk_entry& entry);

  std::map<PortKey, Port> ports_;
};

}  // namespace godwit::sockets
