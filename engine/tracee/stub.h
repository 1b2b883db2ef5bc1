#pragma once

#include <sys/user.h>

#include <cstddef>
#include <cstdint>
#include <span>

// The data of stub.S, the only code of ours that runs inside a tracee. Offsets are fixed here and there.
namespace godwit::tracee {

// One system call. A bit k of kStubIndirect means: argument k is the address of its value.
struct StubDescriptor {
  uint64_t nr;
  uint64_t arguments[6];
  int64_t result;
  uint64_t flags;
};
static_assert(sizeof(StubDescriptor) == 72);

inline constexpr uint64_t kStubIndirect = 1;  // << k for argument k, 0..5
inline constexpr uint64_t kStubStopOnFailure = 1 << 6;
inline constexpr uint64_t kStubKeepResult = 1 << 7;  // write the result into the descriptor
inline constexpr uint64_t kStubNoCall = 1 << 8;      // no call: argument 0 is the result
inline constexpr uint64_t kStubStore32 = 1 << 9;     // also store it at the address in argument 1
inline constexpr uint64_t kStubStore64 = 1 << 10;

// The result of a descriptor that was not run.
inline constexpr int64_t kStubNotRun = INT64_MIN;

// What follows the code of a copy of the stub. Written by the tracer only: the stub runs where it cannot
// write.
struct StubState {
  uint64_t mode;  // kStubOwnsMask, kStubReturnsBySignalFrame
  uint64_t descriptors, count;
  uint32_t tgid, tid;  // of this thread, as it sees itself
  uint64_t signal;     // that ends the batch
  uint64_t batch_mask, own_mask;
  uint64_t signal_frame;  // an rt_sigreturn frame (a struct ucontext)
  // The registers to return with.
  uint64_t flags_in_ax;  // low byte: overflow flag; second byte: the other arithmetic flags
  uint64_t rip, rax, rbx, rcx, rdx, rsi, rdi, r8, r9, r10, r11, r12, r13;
  uint64_t rsp;  // only for a tracer that finds the thread in here
};

// The stub blocks all signals at its start, and puts the mask back at its end.
inline constexpr uint64_t kStubOwnsMask = 1;
// It returns by rt_sigreturn from signal_frame.
inline constexpr uint64_t kStubReturnsBySignalFrame = 2;

// The machine code; the state follows at this size.
std::span<const std::byte> stub_code();

// The registers that the stub returns with, into its state; they must already be those of
// resumed_registers(). What is not in the state the stub never changes.
void set_own_registers(StubState& state, const user_regs_struct& own);
// The other way: of a thread that was found in the stub.
user_regs_struct own_registers(const StubState& state, const user_regs_struct& in_stub);

}  // namespace godwit::tracee
