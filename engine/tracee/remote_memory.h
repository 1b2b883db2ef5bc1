#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "engine/base/bytes.h"
#include "engine/base/fd.h"
#include "engine/tracee/remote_address.h"

namespace godwit::tracee {

// A piece of a tracee's address space, in bytes.
struct RemoteRange {
  RemoteAddress start;
  uint64_t size = 0;
};

// The memory of one process: reads by process_vm_readv(2) and, where that is refused (PROT_NONE, write-only
// pages), by /proc/PID/mem; writes by /proc/PID/mem, which also goes through read-only and executable private
// mappings. Any thread of ours may use it; the process should be stopped.
class RemoteMemory {
 public:
  // Opens /proc/PID/mem. Throws SystemError.
  explicit RemoteMemory(pid_t pid);

  pid_t pid() const { return pid_; }

  // Fills `out` or throws SystemError that names pid and address.
  void read(RemoteAddress from, std::span<std::byte> out) const;
  // Reads until the first byte that cannot be read; returns how many bytes that were (0: not even the first).
  size_t read_up_to(RemoteAddress from, std::span<std::byte> out) const;
  // Reads all ranges, one after the other, into `out`, whose size is their sum. Any number of ranges; as few
  // system calls as IOV_MAX allows. Throws SystemError that names the first range that cannot be read.
  void read_ranges(std::span<const RemoteRange> ranges, std::span<std::byte> out) const;
  // A string with its terminating zero, which is left out; throws FormatError when there is none within
  // `limit` bytes.
  std::string read_string(RemoteAddress from, size_t limit) const;
  template <class T>
  T read_object(RemoteAddress from) const {
    T value;
    read(from, writable_bytes_of(value));
    return value;
  }

  // Writes all bytes or throws SystemError that names pid and address.
  void write(RemoteAddress to, std::span<const std::byte> bytes) const;
  template <class T>
  void write_object(RemoteAddress to, const T& value) const {
    write(to, bytes_of(value));
  }

 private:
  size_t read_through_file(RemoteAddress from, std::span<std::byte> out) const;
  size_t read_some_ranges(std::span<const RemoteRange> ranges, std::span<std::byte> out) const;

  pid_t pid_;
  Fd mem_;
};

}  // namespace godwit::tracee
