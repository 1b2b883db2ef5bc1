#include "engine/images/record_types.h"

#include <map>

#include "engine/base/error.h"
#include "proto/images/cgroup.pb.h"
#include "proto/images/core.pb.h"
#include "proto/images/cpuinfo.pb.h"
#include "proto/images/fdinfo.pb.h"
#include "proto/images/file_data.pb.h"
#include "proto/images/inventory.pb.h"
#include "proto/images/mm.pb.h"
#include "proto/images/mounts.pb.h"
#include "proto/images/namespaces.pb.h"
#include "proto/images/pagemap.pb.h"
#include "proto/images/security.pb.h"
#include "proto/images/sockets.pb.h"
#include "proto/images/stats.pb.h"
#include "proto/images/tty.pb.h"

namespace godwit::images {
namespace {

using google::protobuf::Message;

std::map<Kind, const Message*> prototypes() {
  return {
      {Kind::kInventory, &pb::inventory_entry::default_instance()},
      {Kind::kFdinfo, &pb::fdinfo_entry::default_instance()},
      {Kind::kPagemap, &pb::pagemap_head::default_instance()},
      {Kind::kShmemPagemap, &pb::pagemap_head::default_instance()},
      {Kind::kRegFiles, &pb::reg_file_entry::default_instance()},
      {Kind::kExtFiles, &pb::ext_file_entry::default_instance()},
      {Kind::kNsFiles, &pb::ns_file_entry::default_instance()},
      {Kind::kEventfdFile, &pb::eventfd_file_entry::default_instance()},
      {Kind::kEventpollFile, &pb::eventpoll_file_entry::default_instance()},
      {Kind::kEventpollTfd, &pb::eventpoll_tfd_entry::default_instance()},
      {Kind::kSignalfd, &pb::signalfd_entry::default_instance()},
      {Kind::kInotifyFile, &pb::inotify_file_entry::default_instance()},
      {Kind::kInotifyWd, &pb::inotify_wd_entry::default_instance()},
      {Kind::kFanotifyFile, &pb::fanotify_file_entry::default_instance()},
      {Kind::kFanotifyMark, &pb::fanotify_mark_entry::default_instance()},
      {Kind::kCore, &pb::core_entry::default_instance()},
      {Kind::kIds, &pb::task_kobj_ids_entry::default_instance()},
      {Kind::kMm, &pb::mm_entry::default_instance()},
      {Kind::kVmas, &pb::vma_entry::default_instance()},
      {Kind::kPipes, &pb::pipe_entry::default_instance()},
      {Kind::kPipesData, &pb::pipe_data_entry::default_instance()},
      {Kind::kFifo, &pb::fifo_entry::default_instance()},
      {Kind::kFifoData, &pb::pipe_data_entry::default_instance()},
      {Kind::kPstree, &pb::pstree_entry::default_instance()},
      {Kind::kSigact, &pb::sa_entry::default_instance()},
      {Kind::kUnixsk, &pb::unix_sk_entry::default_instance()},
      {Kind::kInetsk, &pb::inet_sk_entry::default_instance()},
      {Kind::kPacketsk, &pb::packet_sock_entry::default_instance()},
      {Kind::kNetlinkSk, &pb::netlink_sk_entry::default_instance()},
      {Kind::kSkQueues, &pb::sk_packet_entry::default_instance()},
      {Kind::kItimers, &pb::itimer_entry::default_instance()},
      {Kind::kPosixTimers, &pb::posix_timer_entry::default_instance()},
      {Kind::kCreds, &pb::creds_entry::default_instance()},
      {Kind::kUtsns, &pb::utsns_entry::default_instance()},
      {Kind::kIpcVar, &pb::ipc_var_entry::default_instance()},
      {Kind::kIpcnsShm, &pb::ipc_shm_entry::default_instance()},
      {Kind::kIpcnsMsg, &pb::ipc_msg_entry::default_instance()},
      {Kind::kIpcnsSem, &pb::ipc_sem_entry::default_instance()},
      {Kind::kFs, &pb::fs_entry::default_instance()},
      {Kind::kRemapFpath, &pb::remap_file_path_entry::default_instance()},
      {Kind::kGhostFile, &pb::ghost_file_entry::default_instance()},
      {Kind::kMemfdInode, &pb::memfd_inode_entry::default_instance()},
      {Kind::kTcpStream, &pb::tcp_stream_entry::default_instance()},
      {Kind::kMnts, &pb::mnt_entry::default_instance()},
      {Kind::kNetdev, &pb::net_device_entry::default_instance()},
      {Kind::kNetns, &pb::netns_entry::default_instance()},
      {Kind::kAutofs, &pb::autofs_entry::default_instance()},
      {Kind::kBinfmtMiscOld, &pb::binfmt_misc_entry::default_instance()},
      {Kind::kBinfmtMisc, &pb::binfmt_misc_entry::default_instance()},
      {Kind::kTtyFiles, &pb::tty_file_entry::default_instance()},
      {Kind::kTtyInfo, &pb::tty_info_entry::default_instance()},
      {Kind::kTtyData, &pb::tty_data_entry::default_instance()},
      {Kind::kFileLocks, &pb::file_lock_entry::default_instance()},
      {Kind::kRlimit, &pb::rlimit_entry::default_instance()},
      {Kind::kSignal, &pb::siginfo_entry::default_instance()},
      {Kind::kPsignal, &pb::siginfo_entry::default_instance()},
      {Kind::kTunfile, &pb::tunfile_entry::default_instance()},
      {Kind::kCgroup, &pb::cgroup_entry::default_instance()},
      {Kind::kTimerfd, &pb::timerfd_entry::default_instance()},
      {Kind::kCpuinfo, &pb::cpuinfo_entry::default_instance()},
      {Kind::kSeccomp, &pb::seccomp_entry::default_instance()},
      {Kind::kUserns, &pb::userns_entry::default_instance()},
      {Kind::kFiles, &pb::file_entry::default_instance()},
      {Kind::kTimens, &pb::timens_entry::default_instance()},
      {Kind::kPidns, &pb::pidns_entry::default_instance()},
      {Kind::kBpfmapFile, &pb::bpfmap_file_entry::default_instance()},
      {Kind::kBpfmapData, &pb::bpfmap_data_entry::default_instance()},
      {Kind::kApparmor, &pb::apparmor_entry::default_instance()},
      {Kind::kPidfd, &pb::pidfd_entry::default_instance()},
      {Kind::kStatsDump, &pb::stats_entry::default_instance()},
      {Kind::kStatsRestore, &pb::stats_entry::default_instance()},
      {Kind::kIrmapCache, &pb::irmap_cache_entry::default_instance()},
  };
}

template <class Record>
const Record& as(const Message& record) {
  return dynamic_cast<const Record&>(record);
}

PayloadSize padded(uint64_t bytes, uint64_t unit) {
  return {bytes, (unit - bytes % unit) % unit};
}

}  // namespace

const Message* record_prototype(Kind kind) {
  static const std::map<Kind, const Message*> table = prototypes();
  auto row = table.find(kind);
  return row == table.end() ? nullptr : row->second;
}

PayloadSize payload_size(Kind kind, const Message& record) {
  switch (kind) {
    case Kind::kPipesData:
    case Kind::kFifoData:
      return {.bytes = as<pb::pipe_data_entry>(record).bytes()};
    case Kind::kSkQueues:
      return {.bytes = as<pb::sk_packet_entry>(record).length()};
    case Kind::kTcpStream:
      return {.bytes = uint64_t{as<pb::tcp_stream_entry>(record).inq_len()} +
                       as<pb::tcp_stream_entry>(record).outq_len()};
    case Kind::kBpfmapData:
      return {.bytes = uint64_t{as<pb::bpfmap_data_entry>(record).keys_bytes()} +
                       as<pb::bpfmap_data_entry>(record).values_bytes()};
    case Kind::kIpcnsShm:
      // Newer writers put the segment into page images.
      if (as<pb::ipc_shm_entry>(record).in_pagemaps()) return {};
      return padded(as<pb::ipc_shm_entry>(record).size(), sizeof(uint32_t));
    case Kind::kIpcnsSem:
      return padded(uint64_t{as<pb::ipc_sem_entry>(record).nsems()} * sizeof(uint16_t), sizeof(uint64_t));
    default:
      return {};
  }
}

}  // namespace godwit::images
