#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/base/fd.h"
#include "engine/images/image_directory.h"
#include "engine/memory/process_identity.h"

// Who cleared the soft-dirty bits of a process last. The kernel does not tell, and anybody may have done it:
// the bits say what changed since then, and that is of use only to the one who did it. So every chain of
// rounds has a token of its own; before it clears the bits of a process it writes the token into the file of
// this process here, and afterwards it believes the bits only while that file still holds its token. Other
// programs that write to clear_refs (a stock criu that pre-dumps the same process between two rounds of ours)
// are not noticed.
namespace godwit::memory {

inline constexpr const char* kArmingRegistryPath = "/run/criu-soft-dirty";

class ArmingRegistry {
 public:
  // Makes the directory when it is not there, and removes the files of processes that have ended. Throws
  // SystemError, and Error when the directory is not ours.
  static ArmingRegistry open(const std::string& path = kArmingRegistryPath);

  // Must have returned before the bits are cleared. Throws SystemError.
  void set_last(const ProcessIdentity& process, const std::string& token);
  // Empty when nobody has.
  std::optional<std::string> last(const ProcessIdentity& process) const;

 private:
  explicit ArmingRegistry(Fd directory) : directory_(std::move(directory)) {}
  void remove_ended() noexcept;
  Fd directory_;
};

// What a command leaves in its image directory for the next one: the file `godwit-tracking`.
struct ArmingRecord {
  std::string boot_id;
  std::string token;
  std::vector<ProcessIdentity> processes;
};

inline constexpr const char* kArmingRecordName = "godwit-tracking";

std::string format_record(const ArmingRecord& record);
// Throws FormatError.
ArmingRecord parse_record(std::string_view text);

void write_record(const images::ImageDirectory& directory, const ArmingRecord& record);
// Empty when there is none, it cannot be read, or it was written before this boot; a warning says so.
std::optional<ArmingRecord> read_record(const images::ImageDirectory& directory);

// /proc/sys/kernel/random/boot_id.
std::string current_boot_id();
// 128 random bits in hexadecimal.
std::string new_token();

}  // namespace godwit::memory
