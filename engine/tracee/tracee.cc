#include "engine/tracee/tracee.h"

#include <elf.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include <array>
#include <utility>

#include "engine/base/error.h"
#include "engine/tracee/ptrace_call.h"
#include "engine/tracee/syscall_restart.h"

namespace godwit::tracee {
namespace {

constexpr size_t kKernelMaskSize = 8;   // bytes of the kernel's sigset_t
constexpr size_t kXstateLimit = 65536;  // far above AMX's 11 KiB

void* number(unsigned long value) {
  return reinterpret_cast<void*>(value);
}

}  // namespace

user_regs_struct get_registers(pid_t tid) {
  user_regs_struct registers{};
  GODWIT_PTRACE(PTRACE_GETREGS, tid, nullptr, &registers);
  return registers;
}

void set_registers(pid_t tid, const user_regs_struct& registers) {
  GODWIT_PTRACE(PTRACE_SETREGS, tid, nullptr, &registers);
}

void set_signal_mask(pid_t tid, uint64_t mask) {
  GODWIT_PTRACE(PTRACE_SETSIGMASK, tid, kKernelMaskSize, &mask);
}

void resume(pid_t tid, int signal) {
  GODWIT_PTRACE(PTRACE_CONT, tid, nullptr, number(static_cast<unsigned long>(signal)));
}

void resume_to_system_call(pid_t tid, int signal) {
  GODWIT_PTRACE(PTRACE_SYSCALL, tid, nullptr, number(static_cast<unsigned long>(signal)));
}

Tracee::Tracee(Tracee&& other) noexcept
    : pid_(other.pid_),
      tid_(other.tid_),
      attached_(std::exchange(other.attached_, false)),
      options_(other.options_),
      frozen_(other.frozen_) {}

Tracee& Tracee::operator=(Tracee&& other) noexcept {
  if (this == &other) return *this;
  detach();
  pid_ = other.pid_;
  tid_ = other.tid_;
  attached_ = std::exchange(other.attached_, false);
  options_ = other.options_;
  frozen_ = other.frozen_;
  return *this;
}

Tracee::~Tracee() {
  detach();
}

user_regs_struct Tracee::registers() const {
  return get_registers(tid_);
}

void Tracee::set_registers(const user_regs_struct& registers) {
  tracee::set_registers(tid_, registers);
}

std::vector<std::byte> Tracee::xstate() const {
  std::vector<std::byte> area(kXstateLimit);
  iovec vector{area.data(), area.size()};
  GODWIT_PTRACE(PTRACE_GETREGSET, tid_, number(NT_X86_XSTATE), &vector);
  area.resize(vector.iov_len);
  return area;
}

void Tracee::set_xstate(std::span<const std::byte> area) {
  iovec vector{const_cast<std::byte*>(area.data()), area.size()};
  GODWIT_PTRACE(PTRACE_SETREGSET, tid_, number(NT_X86_XSTATE), &vector);
}

uint64_t Tracee::signal_mask() const {
  uint64_t mask = 0;
  GODWIT_PTRACE(PTRACE_GETSIGMASK, tid_, kKernelMaskSize, &mask);
  return mask;
}

void Tracee::set_signal_mask(uint64_t mask) {
  tracee::set_signal_mask(tid_, mask);
}

std::vector<siginfo_t> Tracee::peek_signals(bool shared) const {
  std::vector<siginfo_t> signals;
  for (;;) {
    std::array<siginfo_t, 32> batch;
    __ptrace_peeksiginfo_args from{.off = signals.size(),
                                   .flags = shared ? uint32_t{PTRACE_PEEKSIGINFO_SHARED} : 0,
                                   .nr = static_cast<int32_t>(batch.size())};
    long count = GODWIT_PTRACE(PTRACE_PEEKSIGINFO, tid_, &from, batch.data());
    signals.insert(signals.end(), batch.begin(), batch.begin() + count);
    if (count < static_cast<long>(batch.size())) return signals;
  }
}

siginfo_t Tracee::signal_info() const {
  siginfo_t info{};
  GODWIT_PTRACE(PTRACE_GETSIGINFO, tid_, nullptr, &info);
  return info;
}

std::optional<RseqConfiguration> Tracee::rseq_configuration() const {
  __ptrace_rseq_configuration kernel{};
  if (::ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tid_, sizeof kernel, &kernel) < 0) {
    if (errno == EIO || errno == EINVAL) return std::nullopt;
    throw SystemError(errno, "tid {}: PTRACE_GET_RSEQ_CONFIGURATION", tid_);
  }
  if (kernel.rseq_abi_pointer == 0) return std::nullopt;
  return RseqConfiguration{kernel.rseq_abi_pointer, kernel.rseq_abi_size, kernel.signature, kernel.flags};
}

unsigned long Tracee::event_message() const {
  unsigned long message = 0;
  GODWIT_PTRACE(PTRACE_GETEVENTMSG, tid_, nullptr, &message);
  return message;
}

void Tracee::set_options(uint32_t options) {
  GODWIT_PTRACE(PTRACE_SETOPTIONS, tid_, nullptr, number(options));
  options_ = options;
}

bool Tracee::suspend_seccomp() {
  if (::ptrace(PTRACE_SETOPTIONS, tid_, nullptr, number(options_ | PTRACE_O_SUSPEND_SECCOMP)) < 0) {
    if (errno == EPERM || errno == EINVAL) return false;
    throw SystemError(errno, "tid {}: PTRACE_O_SUSPEND_SECCOMP", tid_);
  }
  options_ |= PTRACE_O_SUSPEND_SECCOMP;
  return true;
}

void Tracee::interrupt() {
  GODWIT_PTRACE(PTRACE_INTERRUPT, tid_, nullptr, nullptr);
}

void Tracee::resume(int signal) {
  tracee::resume(tid_, signal);
}

void Tracee::resume_to_system_call(int signal) {
  tracee::resume_to_system_call(tid_, signal);
}

void Tracee::detach(int signal) noexcept {
  if (!std::exchange(attached_, false)) return;
  // ESRCH: it died meanwhile, or was never stopped; a kernel that still traces it lets go when we end.
  ::ptrace(PTRACE_DETACH, tid_, nullptr, number(static_cast<unsigned long>(signal)));
}

void Tracee::kill() noexcept {
  ::kill(pid_, SIGKILL);
}

void Tracee::capture(WaitStatus stop) {
  frozen_.registers = registers();
  frozen_.signal_mask = signal_mask();
  frozen_.stop_signal = stop.group_stop_signal();
  frozen_.in = frozen_.stop_signal != 0 ? FrozenIn::kGroupStop : FrozenIn::kRunning;
  if (auto rseq = rseq_configuration()) {
    if (auto abort = rseq_abort_address(pid_, *rseq, frozen_.registers.rip)) frozen_.registers.rip = *abort;
  }
}

void Tracee::replace_frozen(const user_regs_struct& registers, uint64_t signal_mask) {
  // In this order a death in between leaves the thread in a stub that knows its registers.
  set_signal_mask(signal_mask);
  set_registers(registers);
  frozen_.registers = registers;
  frozen_.signal_mask = signal_mask;
}

}  // namespace godwit::tracee
