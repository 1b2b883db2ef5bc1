#include "engine/sockets/inet_socket.h"

#include "engine/sockets/inet_collect.h"
#include "engine/sockets/inet_opener.h"

namespace godwit::sockets {
namespace {

class InetSocketKind final : public kinds::FileKind {
 public:
  pb::fd_types type() const override { return pb::INETSK; }

  bool recognises(const kinds::OpenFile& file) const override { return is_inet_socket(file); }

  void collect(const kinds::OpenFile& file, const kinds::Policy& policy, pb::file_entry& entry,
               kinds::Problems& problems) override {
    entry.mutable_isk()->set_id(entry.id());
    collect_inet_socket(file, policy, diag_, *entry.mutable_isk(), problems);
  }

  void plan(const pb::file_entry& entry, const kinds::Policy& policy, kinds::Problems& problems) override {
    opener_.plan(entry.isk(), policy, problems);
  }

  Fd open(const pb::file_entry& entry, const kinds::Policy& policy) override {
    return opener_.open(entry.isk(), policy);
  }

 private:
  SocketDiag diag_;
  InetOpener opener_;
};

}  // namespace

std::unique_ptr<kinds::FileKind> make_inet_socket_kind() {
  return std::make_unique<InetSocketKind>();
}

}  // namespace godwit::sockets
