#include "engine/tracee/syscall_restart.h"

#include <linux/rseq.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>

#include "engine/tracee/remote_memory.h"
#include "engine/tracee/tracee.h"

namespace godwit::tracee {
namespace {

// The kernel's own errno values, never seen by programs: include/linux/errno.h.
constexpr int64_t kRestartSys = -512;
constexpr int64_t kRestartNoIntr = -513;
constexpr int64_t kRestartNoHand = -514;
constexpr int64_t kRestartBlock = -516;

constexpr uint64_t kSyscallInstructionSize = 2;

}  // namespace

user_regs_struct resumed_registers(const user_regs_struct& stopped, RestartBlock restart_block) {
  user_regs_struct resumed = stopped;
  resumed.orig_rax = static_cast<uint64_t>(-1);
  if (static_cast<int64_t>(stopped.orig_rax) < 0) return resumed;  // not in a system call
  switch (static_cast<int64_t>(stopped.rax)) {
    case kRestartSys:
    case kRestartNoIntr:
    case kRestartNoHand:
      resumed.rax = stopped.orig_rax;
      resumed.rip -= kSyscallInstructionSize;
      break;
    case kRestartBlock:
      if (restart_block == RestartBlock::kKept) {
        resumed.rax = SYS_restart_syscall;
        resumed.rip -= kSyscallInstructionSize;
      } else {
        resumed.rax = static_cast<uint64_t>(-EINTR);
      }
      break;
    default:
      break;
  }
  return resumed;
}

std::optional<uint64_t> rseq_abort_address(pid_t pid, const RseqConfiguration& rseq, uint64_t instruction) {
  RemoteMemory memory(pid);
  uint64_t section_address = 0;
  RemoteAddress pointer{rseq.pointer + offsetof(struct rseq, rseq_cs)};
  // A program that has unmapped its area gets what the kernel would give it, later and without us.
  if (memory.read_up_to(pointer, writable_bytes_of(section_address)) != sizeof section_address) return {};
  if (section_address == 0) return {};
  rseq_cs section{};
  if (memory.read_up_to(RemoteAddress{section_address}, writable_bytes_of(section)) != sizeof section)
    return {};
  if (instruction - section.start_ip >= section.post_commit_offset) return {};
  return section.abort_ip;
}

}  // namespace godwit::tracee
