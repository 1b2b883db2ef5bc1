#include "engine/files/build_id.h"

#include <elf.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/base/units.h"

namespace godwit::files {
namespace {

// Real notes are a few hundred bytes, program headers a dozen; what is beyond belongs to no file that we want
// to know.
constexpr uint64_t kMaxNoteBytes = 64 * kKiB;
constexpr size_t kMaxProgramHeaders = 4096;
constexpr uint32_t kMaxBuildIdBytes = 512;

// Whether the file had that many bytes there.
bool read_at(int fd, std::span<std::byte> bytes, uint64_t offset) {
  if (offset > uint64_t{INT64_MAX}) return false;
  return ::pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)) ==
         static_cast<ssize_t>(bytes.size());
}

uint64_t padded(uint32_t size) {
  return (uint64_t{size} + 3) & ~uint64_t{3};
}

std::vector<uint32_t> packed(std::span<const std::byte> id) {
  std::vector<uint32_t> words((id.size() + 3) / 4);
  std::memcpy(words.data(), id.data(), id.size());
  return words;
}

std::vector<uint32_t> find_in_notes(std::span<const std::byte> notes) {
  while (notes.size() >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr header;  // the same for 32 bits
    std::memcpy(&header, notes.data(), sizeof header);
    uint64_t name_end = sizeof header + padded(header.n_namesz);
    if (name_end + header.n_descsz > notes.size()) break;
    if (header.n_type == NT_GNU_BUILD_ID && header.n_descsz > 0 && header.n_descsz <= kMaxBuildIdBytes) {
      return packed(notes.subspan(name_end, header.n_descsz));
    }
    notes = notes.subspan(std::min<uint64_t>(name_end + padded(header.n_descsz), notes.size()));
  }
  return {};
}

template <class FileHeader, class ProgramHeader>
std::vector<uint32_t> find_in_file(int fd) {
  FileHeader file;
  if (!read_at(fd, writable_bytes_of(file), 0)) return {};
  std::vector<ProgramHeader> headers(std::min<size_t>(file.e_phnum, kMaxProgramHeaders));
  if (!read_at(fd, std::as_writable_bytes(std::span(headers)), file.e_phoff)) return {};
  for (const ProgramHeader& header : headers) {
    if (header.p_type != PT_NOTE) continue;
    std::vector<std::byte> notes(std::min<uint64_t>(header.p_filesz, kMaxNoteBytes));
    if (!read_at(fd, notes, header.p_offset)) continue;
    if (auto id = find_in_notes(notes); !id.empty()) return id;
  }
  return {};
}

}  // namespace

std::vector<uint32_t> read_build_id(int fd) {
  unsigned char ident[EI_NIDENT];
  if (!read_at(fd, writable_bytes_of(ident), 0) || std::memcmp(ident, ELFMAG, SELFMAG) != 0) return {};
  if (ident[EI_CLASS] == ELFCLASS64) return find_in_file<Elf64_Ehdr, Elf64_Phdr>(fd);
  if (ident[EI_CLASS] == ELFCLASS32) return find_in_file<Elf32_Ehdr, Elf32_Phdr>(fd);
  return {};
}

}  // namespace godwit::files
