#include "engine/tracee/remote_memory.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "engine/base/error.h"
#include "engine/base/units.h"

namespace godwit::tracee {
namespace {

// The most bytes that one read or write moves: MAX_RW_COUNT of the kernel, rounded down.
constexpr size_t kMostAtOnce = size_t{1} << 30;

}  // namespace

RemoteMemory::RemoteMemory(pid_t pid)
    : pid_(pid), mem_(open_at(AT_FDCWD, fmt::format("/proc/{}/mem", pid), O_RDWR)) {}

void RemoteMemory::read(RemoteAddress from, std::span<std::byte> out) const {
  size_t done = read_up_to(from, out);
  if (done != out.size()) throw SystemError(EFAULT, "pid {}: reading memory at {}", pid_, from + done);
}

size_t RemoteMemory::read_up_to(RemoteAddress from, std::span<std::byte> out) const {
  size_t done = 0;
  while (done < out.size()) {
    auto rest = out.subspan(done, std::min(out.size() - done, kMostAtOnce));
    iovec local{rest.data(), rest.size()};
    iovec remote{reinterpret_cast<void*>((from + done).value), rest.size()};
    ssize_t count = ::process_vm_readv(pid_, &local, 1, &remote, 1, 0);
    if (count < 0 && errno != EFAULT && errno != EPERM) {
      throw SystemError(errno, "pid {}: reading memory at {}", pid_, from + done);
    }
    if (count <= 0) {
      // One page only: what follows may be readable the fast way again.
      size_t page_rest = kPageSize - ((from + done).value & (kPageSize - 1));
      count =
          static_cast<ssize_t>(read_through_file(from + done, rest.first(std::min(rest.size(), page_rest))));
      if (count == 0) return done;
    }
    done += static_cast<size_t>(count);
  }
  return done;
}

size_t RemoteMemory::read_through_file(RemoteAddress from, std::span<std::byte> out) const {
  ssize_t count = ::pread(mem_.get(), out.data(), out.size(), static_cast<off_t>(from.value));
  return count < 0 ? 0 : static_cast<size_t>(count);
}

void RemoteMemory::read_ranges(std::span<const RemoteRange> ranges, std::span<std::byte> out) const {
  while (!ranges.empty()) {
    size_t count = std::min<size_t>(ranges.size(), IOV_MAX);
    size_t done = read_some_ranges(ranges.first(count), out);
    for (const RemoteRange& range : ranges.first(count)) {
      // What the fast way did not give: finish this range alone, then go on behind it.
      if (done < range.size) read(range.start + done, out.subspan(done, range.size - done));
      bool complete = done >= range.size;
      done -= std::min(done, range.size);
      out = out.subspan(range.size);
      ranges = ranges.subspan(1);
      if (!complete) break;
    }
  }
}

size_t RemoteMemory::read_some_ranges(std::span<const RemoteRange> ranges, std::span<std::byte> out) const {
  std::array<iovec, IOV_MAX> remote;
  size_t total = 0;
  for (size_t i = 0; i < ranges.size(); ++i) {
    remote[i] = {reinterpret_cast<void*>(ranges[i].start.value), ranges[i].size};
    total += ranges[i].size;
  }
  if (total > out.size()) throw Error("reading {} bytes into a buffer of {}", total, out.size());
  iovec local{out.data(), total};
  ssize_t count = ::process_vm_readv(pid_, &local, 1, remote.data(), ranges.size(), 0);
  if (count >= 0) return static_cast<size_t>(count);
  if (errno == EFAULT || errno == EPERM) return 0;
  throw SystemError(errno, "pid {}: reading {} ranges of memory", pid_, ranges.size());
}

std::string RemoteMemory::read_string(RemoteAddress from, size_t limit) const {
  std::string text;
  while (text.size() < limit) {
    std::array<char, 256> piece;
    size_t wanted = std::min(piece.size(), limit - text.size());
    size_t count = read_up_to(from + text.size(), std::as_writable_bytes(std::span(piece).first(wanted)));
    auto end = std::find(piece.begin(), piece.begin() + static_cast<ptrdiff_t>(count), '\0');
    bool found = end != piece.begin() + static_cast<ptrdiff_t>(count);
    text.append(piece.begin(), end);
    if (found) return text;
    if (count < wanted) throw SystemError(EFAULT, "pid {}: reading memory at {}", pid_, from + text.size());
  }
  throw FormatError("pid {}: the string at {} does not end within {} bytes", pid_, from, limit);
}

void RemoteMemory::write(RemoteAddress to, std::span<const std::byte> bytes) const {
  for (size_t done = 0; done < bytes.size();) {
    auto rest = bytes.subspan(done, std::min(bytes.size() - done, kMostAtOnce));
    ssize_t count = ::pwrite(mem_.get(), rest.data(), rest.size(), static_cast<off_t>((to + done).value));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      throw SystemError(count < 0 ? errno : EIO, "pid {}: writing memory at {}", pid_, to + done);
    }
    done += static_cast<size_t>(count);
  }
}

}  // namespace godwit::tracee
