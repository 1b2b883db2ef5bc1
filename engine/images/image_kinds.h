#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

// Every kind of image file: its name, its magic numbers, what follows its records.
namespace godwit::images {

// Names follow CRIU's, so that an error or a "show" of ours can be looked up in its documents.
enum class Kind {
  kInventory,
  kFdinfo,
  kPagemap,
  kShmemPagemap,
  kRegFiles,
  kExtFiles,
  kNsFiles,
  kEventfdFile,
  kEventpollFile,
  kEventpollTfd,
  kSignalfd,
  kInotifyFile,
  kInotifyWd,
  kFanotifyFile,
  kFanotifyMark,
  kCore,
  kIds,
  kMm,
  kVmas,
  kPipes,
  kPipesData,
  kFifo,
  kFifoData,
  kPstree,
  kSigact,
  kUnixsk,
  kInetsk,
  kPacketsk,
  kNetlinkSk,
  kSkQueues,
  kItimers,
  kPosixTimers,
  kCreds,
  kUtsns,
  kIpcVar,
  kIpcnsShm,
  kIpcnsMsg,
  kIpcnsSem,
  kFs,
  kRemapFpath,
  kGhostFile,
  kMemfdInode,
  kTcpStream,
  kMnts,
  kNetdev,
  kNetns,
  kIfaddr,
  kRoute,
  kRoute6,
  kRule,
  kIptables,
  kIp6tables,
  kNftables,
  kTmpfsImg,
  kTmpfsDev,
  kAutofs,
  kBinfmtMiscOld,
  kBinfmtMisc,
  kTtyFiles,
  kTtyInfo,
  kTtyData,
  kFileLocks,
  kRlimit,
  kPages,
  kPagesOld,
  kShmPagesOld,
  kSignal,
  kPsignal,
  kTunfile,
  kCgroup,
  kTimerfd,
  kCpuinfo,
  kSeccomp,
  kUserns,
  kNetnfCt,
  kNetnfExp,
  kFiles,
  kTimens,
  kPidns,
  kBpfmapFile,
  kBpfmapData,
  kApparmor,
  kPidfd,
  kStatsDump,
  kStatsRestore,
  kIrmapCache,
};

// The first number of an image file. The second is the kind's own; the inventory has only that one, and
// images of version 1 (before 2015) had no first number.
inline constexpr uint32_t kCommonMagic = 0x54564319;
inline constexpr uint32_t kServiceMagic = 0x55105940;

// What stands in a file beside its records.
enum class Payload {
  kNone,      // records only
  kBytes,     // each record is followed by as many bytes as it says
  kPadded,    // the same, rounded up: values of a semaphore set to 8 bytes, shared memory to 4
  kMessages,  // each record (a message queue) is followed by its messages, themselves records with padded
              // text
  kGhost,     // one record, then the file's bytes to the end, or chunk records each followed by its bytes
  kRaw,       // no magic number and no records
};

struct ImageKind {
  Kind kind;
  std::string_view name;     // CRIU's word, as crit prints it: "CORE"
  std::string_view pattern;  // "core-%.img": % is the id in decimal, %x in hexadecimal
  uint32_t magic;            // 0: none
  uint32_t first_magic;      // 0: none
  Payload payload;
};

const ImageKind& image_kind(Kind kind);
std::span<const ImageKind> all_image_kinds();

// "core-42.img". The id is ignored by kinds that have one file per dump.
std::string file_name(Kind kind, uint64_t id);
// The kind that a file of this name (without folder) should be; of two with one pattern, the one in use
// today.
std::optional<Kind> kind_of_file_name(std::string_view name);
// The kind that a magic number stands for: of those that share it, the first in the table.
std::optional<Kind> kind_of_magic(uint32_t magic);

}  // namespace godwit::images
