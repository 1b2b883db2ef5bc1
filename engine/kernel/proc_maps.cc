#include "engine/kernel/proc_maps.h"

#include <sys/mman.h>

#include <array>
#include <utility>

#include "engine/base/error.h"
#include "engine/kernel/text_fields.h"

namespace godwit::kernel {
namespace {

constexpr std::array<std::pair<std::string_view, VmFlag>, 21> kVmFlagNames{{
    {"gd", kVmGrowsDown}, {"lo", kVmLocked},     {"io", kVmIo},          {"pf", kVmPfnMap},
    {"dc", kVmDontFork},  {"dd", kVmDontDump},   {"hg", kVmHugePage},    {"nh", kVmNoHugePage},
    {"mg", kVmMergeable}, {"sr", kVmSequential}, {"rr", kVmRandom},      {"ht", kVmHugeTlb},
    {"nr", kVmNoReserve}, {"wf", kVmWipeOnFork}, {"um", kVmUffdMissing}, {"uw", kVmUffdWriteProtect},
    {"sl", kVmSealed},    {"dp", kVmDroppable},  {"ss", kVmShadowStack}, {"ac", kVmAccountable},
    {"ms", kVmMayShare},
}};

// "00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/dbus-daemon"
MapsEntry parse_line(std::string_view line) {
  ErrorContext context{"maps line '{}'", std::string(line)};
  MapsEntry entry;
  std::string_view range = take_word(line);
  entry.start = parse_number<uint64_t>(take_until(range, '-'), "start", 16);
  entry.end = parse_number<uint64_t>(range, "end", 16);
  std::string_view access = take_word(line);
  if (access.size() != 4 || entry.end <= entry.start) throw FormatError("range or access");
  entry.protection = (access[0] == 'r' ? PROT_READ : 0) | (access[1] == 'w' ? PROT_WRITE : 0) |
                     (access[2] == 'x' ? PROT_EXEC : 0);
  entry.shared = access[3] == 's';
  entry.offset = parse_number<uint64_t>(take_word(line), "offset", 16);
  std::string_view device = take_word(line);
  entry.device_major = parse_number<uint32_t>(take_until(device, ':'), "major", 16);
  entry.device_minor = parse_number<uint32_t>(device, "minor", 16);
  entry.inode = parse_number<uint64_t>(take_word(line), "inode");
  size_t name = line.find_first_not_of(' ');
  if (name != std::string_view::npos) entry.name = line.substr(name);
  return entry;
}

uint32_t parse_vm_flags(std::string_view words) {
  uint32_t flags = 0;
  for (std::string_view word = take_word(words); !word.empty(); word = take_word(words)) {
    for (const auto& [name, flag] : kVmFlagNames) {
      if (word == name) flags |= flag;
    }
  }
  return flags;
}

}  // namespace

std::vector<MapsEntry> parse_maps(std::string_view text) {
  std::vector<MapsEntry> entries;
  while (!text.empty()) entries.push_back(parse_line(take_until(text, '\n')));
  return entries;
}

std::vector<MapsEntry> parse_smaps(std::string_view text) {
  std::vector<MapsEntry> entries;
  while (!text.empty()) {
    std::string_view line = take_until(text, '\n');
    if (line.empty()) continue;
    // Every attribute line begins with a capital letter, every mapping with a lower-case hexadecimal digit.
    if (line[0] < 'A' || line[0] > 'Z') {
      entries.push_back(parse_line(line));
    } else if (line.starts_with("VmFlags:") && !entries.empty()) {
      line.remove_prefix(8);
      entries.back().vm_flags = parse_vm_flags(line);
    }
  }
  return entries;
}

}  // namespace godwit::kernel
