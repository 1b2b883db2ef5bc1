#include "engine/tracee/stub.h"

#include <cstddef>

extern "C" {
extern const std::byte godwit_stub[], godwit_stub_end[];
}

namespace godwit::tracee {

// stub.S counts on these places.
static_assert(offsetof(StubDescriptor, arguments) == 8 && offsetof(StubDescriptor, result) == 56 &&
              offsetof(StubDescriptor, flags) == 64);
static_assert(offsetof(StubState, tgid) == 24 && offsetof(StubState, signal) == 32 &&
              offsetof(StubState, batch_mask) == 40 && offsetof(StubState, signal_frame) == 56 &&
              offsetof(StubState, flags_in_ax) == 64 && offsetof(StubState, rip) == 72 &&
              sizeof(StubState) == 72 + 14 * 8);

std::span<const std::byte> stub_code() {
  return {godwit_stub, godwit_stub_end};
}

void set_own_registers(StubState& state, const user_regs_struct& own) {
  constexpr uint64_t kOverflow = 1 << 11;
  constexpr uint64_t kSahfFlags = 0xff;
  state.flags_in_ax = (own.eflags & kOverflow ? 1u : 0u) | (own.eflags & kSahfFlags) << 8;
  state.rip = own.rip;
  state.rax = own.rax;
  state.rbx = own.rbx;
  state.rcx = own.rcx;
  state.rdx = own.rdx;
  state.rsi = own.rsi;
  state.rdi = own.rdi;
  state.r8 = own.r8;
  state.r9 = own.r9;
  state.r10 = own.r10;
  state.r11 = own.r11;
  state.r12 = own.r12;
  state.r13 = own.r13;
  state.rsp = own.rsp;
}

user_regs_struct own_registers(const StubState& state, const user_regs_struct& in_stub) {
  constexpr uint64_t kArithmeticFlags = 0x8d5;
  user_regs_struct own = in_stub;
  own.orig_rax = static_cast<uint64_t>(-1);
  own.eflags = (in_stub.eflags & ~kArithmeticFlags) | ((state.flags_in_ax >> 8) & kArithmeticFlags & 0xff) |
               ((state.flags_in_ax & 1) << 11);
  own.rip = state.rip;
  own.rax = state.rax;
  own.rbx = state.rbx;
  own.rcx = state.rcx;
  own.rdx = state.rdx;
  own.rsi = state.rsi;
  own.rdi = state.rdi;
  own.r8 = state.r8;
  own.r9 = state.r9;
  own.r10 = state.r10;
  own.r11 = state.r11;
  own.r12 = state.r12;
  own.r13 = state.r13;
  own.rsp = state.rsp;
  return own;
}

}  // namespace godwit::tracee
