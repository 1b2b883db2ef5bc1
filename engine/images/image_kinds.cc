#include "engine/images/image_kinds.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace godwit::images {
namespace {

// In the order of Kind.
constexpr std::array kTable = std::to_array<ImageKind>({
    {Kind::kInventory, "INVENTORY", "inventory.img", 0x58313116, 0, Payload::kNone},
    {Kind::kFdinfo, "FDINFO", "fdinfo-%.img", 0x56213732, kCommonMagic, Payload::kNone},
    {Kind::kPagemap, "PAGEMAP", "pagemap-%.img", 0x56084025, kCommonMagic, Payload::kNone},
    {Kind::kShmemPagemap, "SHMEM_PAGEMAP", "pagemap-shmem-%.img", 0x56084025, kCommonMagic, Payload::kNone},
    {Kind::kRegFiles, "REG_FILES", "reg-files.img", 0x50363636, kCommonMagic, Payload::kNone},
    {Kind::kExtFiles, "EXT_FILES", "ext-files.img", 0x59255641, kCommonMagic, Payload::kNone},
    {Kind::kNsFiles, "NS_FILES", "ns-files.img", 0x61394011, kCommonMagic, Payload::kNone},
    {Kind::kEventfdFile, "EVENTFD_FILE", "eventfd.img", 0x44523722, kCommonMagic, Payload::kNone},
    {Kind::kEventpollFile, "EVENTPOLL_FILE", "eventpoll.img", 0x45023858, kCommonMagic, Payload::kNone},
    {Kind::kEventpollTfd, "EVENTPOLL_TFD", "eventpoll-tfd.img", 0x44433746, kCommonMagic, Payload::kNone},
    {Kind::kSignalfd, "SIGNALFD", "signalfd.img", 0x57323820, kCommonMagic, Payload::kNone},
    {Kind::kInotifyFile, "INOTIFY_FILE", "inotify.img", 0x48424431, kCommonMagic, Payload::kNone},
    {Kind::kInotifyWd, "INOTIFY_WD", "inotify-wd.img", 0x54562009, kCommonMagic, Payload::kNone},
    {Kind::kFanotifyFile, "FANOTIFY_FILE", "fanotify.img", 0x55096122, kCommonMagic, Payload::kNone},
    {Kind::kFanotifyMark, "FANOTIFY_MARK", "fanotify-mark.img", 0x56506035, kCommonMagic, Payload::kNone},
    {Kind::kCore, "CORE", "core-%.img", 0x55053847, kCommonMagic, Payload::kNone},
    {Kind::kIds, "IDS", "ids-%.img", 0x54432030, kCommonMagic, Payload::kNone},
    {Kind::kMm, "MM", "mm-%.img", 0x57492820, kCommonMagic, Payload::kNone},
    {Kind::kVmas, "VMAS", "vmas-%.img", 0x54123737, kCommonMagic, Payload::kNone},
    {Kind::kPipes, "PIPES", "pipes.img", 0x56513555, kCommonMagic, Payload::kNone},
    {Kind::kPipesData, "PIPES_DATA", "pipes-data.img", 0x56453709, kCommonMagic, Payload::kBytes},
    {Kind::kFifo, "FIFO", "fifo.img", 0x58364939, kCommonMagic, Payload::kNone},
    {Kind::kFifoData, "FIFO_DATA", "fifo-data.img", 0x59333054, kCommonMagic, Payload::kBytes},
    {Kind::kPstree, "PSTREE", "pstree.img", 0x50273030, kCommonMagic, Payload::kNone},
    {Kind::kSigact, "SIGACT", "sigacts-%.img", 0x55344201, kCommonMagic, Payload::kNone},
    {Kind::kUnixsk, "UNIXSK", "unixsk.img", 0x54373943, kCommonMagic, Payload::kNone},
    {Kind::kInetsk, "INETSK", "inetsk.img", 0x56443851, kCommonMagic, Payload::kNone},
    {Kind::kPacketsk, "PACKETSK", "packetsk.img", 0x60454618, kCommonMagic, Payload::kNone},
    {Kind::kNetlinkSk, "NETLINK_SK", "netlinksk.img", 0x58005614, kCommonMagic, Payload::kNone},
    {Kind::kSkQueues, "SK_QUEUES", "sk-queues.img", 0x56264026, kCommonMagic, Payload::kBytes},
    {Kind::kItimers, "ITIMERS", "itimers-%.img", 0x57464056, kCommonMagic, Payload::kNone},
    {Kind::kPosixTimers, "POSIX_TIMERS", "posix-timers-%.img", 0x52603957, kCommonMagic, Payload::kNone},
    {Kind::kCreds, "CREDS", "creds-%.img", 0x54023547, kCommonMagic, Payload::kNone},
    {Kind::kUtsns, "UTSNS", "utsns-%.img", 0x54473203, kCommonMagic, Payload::kNone},
    {Kind::kIpcVar, "IPC_VAR", "ipcns-var-%.img", 0x53115007, kCommonMagic, Payload::kNone},
    {Kind::kIpcnsShm, "IPCNS_SHM", "ipcns-shm-%.img", 0x46283044, kCommonMagic, Payload::kPadded},
    {Kind::kIpcnsMsg, "IPCNS_MSG", "ipcns-msg-%.img", 0x55453737, kCommonMagic, Payload::kMessages},
    {Kind::kIpcnsSem, "IPCNS_SEM", "ipcns-sem-%.img", 0x59573019, kCommonMagic, Payload::kPadded},
    {Kind::kFs, "FS", "fs-%.img", 0x51403912, kCommonMagic, Payload::kNone},
    {Kind::kRemapFpath, "REMAP_FPATH", "remap-fpath.img", 0x59133954, kCommonMagic, Payload::kNone},
    {Kind::kGhostFile, "GHOST_FILE", "ghost-file-%x.img", 0x52583605, kCommonMagic, Payload::kGhost},
    {Kind::kMemfdInode, "MEMFD_INODE", "memfd.img", 0x48453499, kCommonMagic, Payload::kNone},
    {Kind::kTcpStream, "TCP_STREAM", "tcp-stream-%x.img", 0x51465506, kCommonMagic, Payload::kBytes},
    {Kind::kMnts, "MNTS", "mountpoints-%.img", 0x55563928, kCommonMagic, Payload::kNone},
    {Kind::kNetdev, "NETDEV", "netdev-%.img", 0x57373951, kCommonMagic, Payload::kNone},
    {Kind::kNetns, "NETNS", "netns-%.img", 0x55933752, kCommonMagic, Payload::kNone},
    {Kind::kIfaddr, "IFADDR", "ifaddr-%.img", 0, 0, Payload::kRaw},
    {Kind::kRoute, "ROUTE", "route-%.img", 0, 0, Payload::kRaw},
    {Kind::kRoute6, "ROUTE6", "route6-%.img", 0, 0, Payload::kRaw},
    {Kind::kRule, "RULE", "rule-%.img", 0, 0, Payload::kRaw},
    {Kind::kIptables, "IPTABLES", "iptables-%.img", 0, 0, Payload::kRaw},
    {Kind::kIp6tables, "IP6TABLES", "ip6tables-%.img", 0, 0, Payload::kRaw},
    {Kind::kNftables, "NFTABLES", "nftables-%.img", 0, 0, Payload::kRaw},
    {Kind::kTmpfsImg, "TMPFS_IMG", "tmpfs-%.tar.gz.img", 0, 0, Payload::kRaw},
    {Kind::kTmpfsDev, "TMPFS_DEV", "tmpfs-dev-%.tar.gz.img", 0, 0, Payload::kRaw},
    {Kind::kAutofs, "AUTOFS", "autofs-%.img", 0x49353943, kCommonMagic, Payload::kNone},
    {Kind::kBinfmtMiscOld, "BINFMT_MISC_OLD", "binfmt-misc-%.img", 0x67343323, kCommonMagic, Payload::kNone},
    {Kind::kBinfmtMisc, "BINFMT_MISC", "binfmt-misc.img", 0x67343323, kCommonMagic, Payload::kNone},
    {Kind::kTtyFiles, "TTY_FILES", "tty.img", 0x59433025, kCommonMagic, Payload::kNone},
    {Kind::kTtyInfo, "TTY_INFO", "tty-info.img", 0x59453036, kCommonMagic, Payload::kNone},
    {Kind::kTtyData, "TTY_DATA", "tty-data.img", 0x59413026, kCommonMagic, Payload::kNone},
    {Kind::kFileLocks, "FILE_LOCKS", "filelocks.img", 0x54323616, kCommonMagic, Payload::kNone},
    {Kind::kRlimit, "RLIMIT", "rlimit-%.img", 0x57113925, kCommonMagic, Payload::kNone},
    {Kind::kPages, "PAGES", "pages-%.img", 0, 0, Payload::kRaw},
    {Kind::kPagesOld, "PAGES_OLD", "pages-%.img", 0x56084025, kCommonMagic, Payload::kRaw},
    {Kind::kShmPagesOld, "SHM_PAGES_OLD", "pages-shmem-%.img", 0x56084025, kCommonMagic, Payload::kRaw},
    {Kind::kSignal, "SIGNAL", "signal-s-%.img", 0x59255647, kCommonMagic, Payload::kNone},
    {Kind::kPsignal, "PSIGNAL", "signal-p-%.img", 0x59255647, kCommonMagic, Payload::kNone},
    {Kind::kTunfile, "TUNFILE", "tunfile.img", 0x57143751, kCommonMagic, Payload::kNone},
    {Kind::kCgroup, "CGROUP", "cgroup.img", 0x59383330, kCommonMagic, Payload::kNone},
    {Kind::kTimerfd, "TIMERFD", "timerfd.img", 0x50493712, kCommonMagic, Payload::kNone},
    {Kind::kCpuinfo, "CPUINFO", "cpuinfo.img", 0x61404013, kCommonMagic, Payload::kNone},
    {Kind::kSeccomp, "SECCOMP", "seccomp.img", 0x64413049, kCommonMagic, Payload::kNone},
    {Kind::kUserns, "USERNS", "userns-%.img", 0x55474906, kCommonMagic, Payload::kNone},
    {Kind::kNetnfCt, "NETNF_CT", "netns-ct-%.img", 0, 0, Payload::kRaw},
    {Kind::kNetnfExp, "NETNF_EXP", "netns-exp-%.img", 0, 0, Payload::kRaw},
    {Kind::kFiles, "FILES", "files.img", 0x56303138, kCommonMagic, Payload::kNone},
    {Kind::kTimens, "TIMENS", "timens-%.img", 0x43114433, kCommonMagic, Payload::kNone},
    {Kind::kPidns, "PIDNS", "pidns-%.img", 0x61157326, kCommonMagic, Payload::kNone},
    {Kind::kBpfmapFile, "BPFMAP_FILE", "bpfmap-file.img", 0x57506142, kCommonMagic, Payload::kNone},
    {Kind::kBpfmapData, "BPFMAP_DATA", "bpfmap-data.img", 0x64324033, kCommonMagic, Payload::kBytes},
    {Kind::kApparmor, "APPARMOR", "apparmor.img", 0x59423047, kCommonMagic, Payload::kNone},
    {Kind::kPidfd, "PIDFD", "pidfd.img", 0x54435556, kCommonMagic, Payload::kNone},
    {Kind::kStatsDump, "STATS", "stats-dump", 0x57093306, kServiceMagic, Payload::kNone},
    {Kind::kStatsRestore, "STATS", "stats-restore", 0x57093306, kServiceMagic, Payload::kNone},
    {Kind::kIrmapCache, "IRMAP_CACHE", "irmap-cache", 0x57004059, kServiceMagic, Payload::kNone},
});

constexpr bool table_is_in_order() {
  for (size_t i = 0; i < kTable.size(); ++i) {
    if (kTable[i].kind != static_cast<Kind>(i)) return false;
  }
  return kTable.size() == static_cast<size_t>(Kind::kIrmapCache) + 1;
}
static_assert(table_is_in_order());

bool all_digits(std::string_view text, bool hexadecimal) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= '0' && c <= '9') || (hexadecimal && c >= 'a' && c <= 'f');
  });
}

bool name_fits(std::string_view name, std::string_view pattern) {
  size_t percent = pattern.find('%');
  if (percent == std::string_view::npos) return name == pattern;
  bool hexadecimal = pattern[percent + 1] == 'x';
  std::string_view before = pattern.substr(0, percent),
                   after = pattern.substr(percent + (hexadecimal ? 2 : 1));
  if (name.size() <= before.size() + after.size() || !name.starts_with(before) || !name.ends_with(after))
    return false;
  return all_digits(name.substr(before.size(), name.size() - before.size() - after.size()), hexadecimal);
}

}  // namespace

const ImageKind& image_kind(Kind kind) {
  return kTable[static_cast<size_t>(kind)];
}

std::span<const ImageKind> all_image_kinds() {
  return kTable;
}

std::string file_name(Kind kind, uint64_t id) {
  std::string_view pattern = image_kind(kind).pattern;
  size_t percent = pattern.find('%');
  if (percent == std::string_view::npos) return std::string(pattern);
  bool hexadecimal = pattern[percent + 1] == 'x';
  std::string_view before = pattern.substr(0, percent),
                   after = pattern.substr(percent + (hexadecimal ? 2 : 1));
  return hexadecimal ? fmt::format("{}{:x}{}", before, id, after) : fmt::format("{}{}{}", before, id, after);
}

std::optional<Kind> kind_of_file_name(std::string_view name) {
  for (const ImageKind& row : kTable) {
    if (name_fits(name, row.pattern)) return row.kind;
  }
  return std::nullopt;
}

std::optional<Kind> kind_of_magic(uint32_t magic) {
  for (const ImageKind& row : kTable) {
    if (row.magic != 0 && row.magic == magic) return row.kind;
  }
  return std::nullopt;
}

}  // namespace godwit::images
