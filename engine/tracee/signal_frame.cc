#include "engine/tracee/signal_frame.h"

#include <ucontext.h>

#include <cstring>

#include "engine/base/bytes.h"

namespace godwit::tracee {
namespace {

// arch/x86/include/uapi/asm/ucontext.h
constexpr unsigned long kExtendedState = 1, kHasStackSegment = 2, kStrictStackSegment = 4;
// What sigaltstack does not accept, so that rt_sigreturn leaves the alternate stack alone.
constexpr int kNoAlternateStack = 7;

// struct _fpx_sw_bytes, in the last bytes of the FXSAVE image: arch/x86/include/uapi/asm/sigcontext.h.
constexpr size_t kSoftwareBytesAt = 464;
constexpr uint32_t kMagic1 = 0x46505853, kMagic2 = 0x46505845;
struct SoftwareBytes {
  uint32_t magic1, extended_size;
  uint64_t features;
  uint32_t xstate_size;
  uint32_t padding[7];
};
static_assert(sizeof(SoftwareBytes) == 48);

constexpr size_t kFrameAlign = 64;
constexpr size_t kXstateAt = (sizeof(ucontext_t) + kFrameAlign - 1) / kFrameAlign * kFrameAlign;

void set_registers(gregset_t& out, const user_regs_struct& in) {
  auto put = [&out](int which, uint64_t value) { out[which] = static_cast<greg_t>(value); };
  put(REG_R8, in.r8);
  put(REG_R9, in.r9);
  put(REG_R10, in.r10);
  put(REG_R11, in.r11);
  put(REG_R12, in.r12);
  put(REG_R13, in.r13);
  put(REG_R14, in.r14);
  put(REG_R15, in.r15);
  put(REG_RDI, in.rdi);
  put(REG_RSI, in.rsi);
  put(REG_RBP, in.rbp);
  put(REG_RBX, in.rbx);
  put(REG_RDX, in.rdx);
  put(REG_RAX, in.rax);
  put(REG_RCX, in.rcx);
  put(REG_RSP, in.rsp);
  put(REG_RIP, in.rip);
  put(REG_EFL, in.eflags);
  put(REG_CSGSFS, in.cs | in.ss << 48);
}

}  // namespace

std::vector<std::byte> make_signal_frame(RemoteAddress place, const user_regs_struct& registers,
                                         std::span<const std::byte> xstate, uint64_t mask) {
  std::vector<std::byte> frame(kXstateAt + xstate.size() + sizeof kMagic2);
  ucontext_t context{};
  context.uc_flags = kExtendedState | kHasStackSegment | kStrictStackSegment;
  context.uc_stack.ss_flags = kNoAlternateStack;
  set_registers(context.uc_mcontext.gregs, registers);
  context.uc_mcontext.fpregs = reinterpret_cast<fpregset_t>((place + kXstateAt).value);
  std::memcpy(&context.uc_sigmask, &mask, sizeof mask);
  std::memcpy(frame.data(), &context, sizeof context);

  std::memcpy(frame.data() + kXstateAt, xstate.data(), xstate.size());
  std::byte* software_at = frame.data() + kXstateAt + kSoftwareBytesAt;
  SoftwareBytes software{.magic1 = kMagic1,
                         .extended_size = static_cast<uint32_t>(xstate.size() + sizeof kMagic2),
                         .features = 0,
                         .xstate_size = static_cast<uint32_t>(xstate.size()),
                         .padding = {}};
  // The register set carries the mask of enabled features (XCR0) in the first of these bytes.
  std::memcpy(&software.features, software_at, sizeof software.features);
  std::memcpy(software_at, &software, sizeof software);
  std::memcpy(frame.data() + kXstateAt + xstate.size(), &kMagic2, sizeof kMagic2);
  return frame;
}

}  // namespace godwit::tracee
