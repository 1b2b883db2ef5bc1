#pragma once

#include <sys/user.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/tracee/remote_address.h"

namespace godwit::tracee {

// A signal frame from which rt_sigreturn gives a thread its registers, its extended state (an NT_X86_XSTATE
// area) and its mask, as if a handler returned. `place`, where it will lie, must be aligned to 64. The
// alternate signal stack is left as it is. Source: arch/x86/kernel/signal_64.c and fpu/signal.c.
std::vector<std::byte> make_signal_frame(RemoteAddress place, const user_regs_struct& registers,
                                         std::span<const std::byte> xstate, uint64_t mask);

}  // namespace godwit::tracee
