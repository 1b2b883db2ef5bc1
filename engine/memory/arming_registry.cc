#include "engine/memory/arming_registry.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <memory>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/kernel/text_fields.h"

namespace godwit::memory {
namespace {

constexpr std::string_view kFirstLine = "godwit-tracking 1";

std::string file_of(const ProcessIdentity& process) {
  return fmt::format("{}-{}", process.pid, process.start_time);
}

// The process that a file is of; empty for other files.
std::optional<ProcessIdentity> process_of(std::string_view name) {
  try {
    ProcessIdentity process;
    process.pid = kernel::parse_number<pid_t>(kernel::take_until(name, '-'), "pid");
    process.start_time = kernel::parse_number<uint64_t>(name, "start time");
    return process;
  } catch (const FormatError&) {
    return std::nullopt;
  }
}

// A new file gets its name when it is whole.
void write_file(int directory, const std::string& name, const std::string& text) {
  std::string temporary = fmt::format("{}.{}.tmp", name, ::getpid());
  {
    Fd file = open_at(directory, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600);
    write_all(file.get(), std::as_bytes(std::span(text)), name.c_str());
  }
  if (::renameat(directory, temporary.c_str(), directory, name.c_str()) != 0) {
    int code = errno;
    ::unlinkat(directory, temporary.c_str(), 0);
    throw SystemError(code, "rename({})", name);
  }
}

std::string_view take_field(std::string_view& text, std::string_view name) {
  std::string_view line = kernel::take_until(text, '\n');
  if (kernel::take_word(line) != name || line.size() < 2)
    throw FormatError("{}: '{}' is missing", kArmingRecordName, name);
  return line.substr(1);
}

}  // namespace

ArmingRegistry ArmingRegistry::open(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) throw SystemError(errno, "mkdir({})", path);
  ArmingRegistry registry(open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  struct stat about {};
  check(::fstat(registry.directory_.get(), &about), "fstat({})", path);
  if (about.st_uid != ::geteuid() || (about.st_mode & 022) != 0)
    throw Error("{} belongs to somebody else, or others may write there", path);
  registry.remove_ended();
  return registry;
}

void ArmingRegistry::set_last(const ProcessIdentity& process, const std::string& token) {
  write_file(directory_.get(), file_of(process), token);
}

std::optional<std::string> ArmingRegistry::last(const ProcessIdentity& process) const {
  return read_file_if_exists(directory_.get(), file_of(process));
}

void ArmingRegistry::remove_ended() noexcept {
  try {
    std::unique_ptr<DIR, int (*)(DIR*)> entries(::fdopendir(directory_.duplicate().release()), ::closedir);
    while (const dirent* entry = entries ? ::readdir(entries.get()) : nullptr) {
      auto process = process_of(entry->d_name);
      if (process && !is_alive(*process)) ::unlinkat(directory_.get(), entry->d_name, 0);
    }
  } catch (const std::exception& error) {
    log::debug("{}: {}", kArmingRegistryPath, error.what());  // the next one may have more luck
  }
}

std::string format_record(const ArmingRecord& record) {
  std::string text = fmt::format("{}\nboot {}\ntoken {}\n", kFirstLine, record.boot_id, record.token);
  for (const auto& process : record.processes)
    text += fmt::format("process {} {} {}\n", process.pid, process.start_time, process.start_stack);
  return text;
}

ArmingRecord parse_record(std::string_view text) {
  if (kernel::take_until(text, '\n') != kFirstLine)
    throw FormatError("{}: not a record of version 1", kArmingRecordName);
  ArmingRecord record;
  record.boot_id = take_field(text, "boot");
  record.token = take_field(text, "token");
  while (!text.empty()) {
    std::string_view words = take_field(text, "process");
    ProcessIdentity process;
    process.pid = kernel::parse_number<pid_t>(kernel::take_word(words), "pid");
    process.start_time = kernel::parse_number<uint64_t>(kernel::take_word(words), "start time");
    process.start_stack = kernel::parse_number<uint64_t>(kernel::take_word(words), "start of the stack");
    record.processes.push_back(process);
  }
  return record;
}

void write_record(const images::ImageDirectory& directory, const ArmingRecord& record) {
  write_file(directory.fd(), kArmingRecordName, format_record(record));
}

std::optional<ArmingRecord> read_record(const images::ImageDirectory& directory) {
  constexpr const char* kConsequence = "every page counts as changed";
  try {
    auto text = read_file_if_exists(directory.fd(), kArmingRecordName);
    if (!text) {
      log::warning("{}: no pre-dump with --track-mem wrote this: {}", directory.path(), kConsequence);
      return std::nullopt;
    }
    ArmingRecord record = parse_record(*text);
    if (record.boot_id == current_boot_id()) return record;
    log::warning("{}: written before this boot: {}", directory.path(), kConsequence);
  } catch (const Error& error) {
    log::warning("{}: {}: {}", directory.path(), error.what(), kConsequence);
  }
  return std::nullopt;
}

std::string current_boot_id() {
  std::string text = read_file(AT_FDCWD, "/proc/sys/kernel/random/boot_id");
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

std::string new_token() {
  std::array<uint64_t, 2> random{};
  if (::getrandom(random.data(), sizeof random, 0) != sizeof random) throw SystemError(errno, "getrandom");
  return fmt::format("{:016x}{:016x}", random[0], random[1]);
}

}  // namespace godwit::memory
