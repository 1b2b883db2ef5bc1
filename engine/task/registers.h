#pragma once

#include <sys/user.h>

#include <cstddef>
#include <span>
#include <vector>

#include "proto/images/core.pb.h"

// A thread's registers in images and in the kernel's ptrace formats: user_regs_struct (NT_PRSTATUS) and the
// standard-format XSAVE area (NT_X86_XSTATE; Intel SDM volume 1, chapter 13).
namespace godwit::task {

void encode_registers(const user_regs_struct& registers, pb::user_x86_regs_entry& entry);
// Throws FormatError for segment values that no 64-bit task can have.
user_regs_struct decode_registers(const pb::user_x86_regs_entry& entry);

// Components that are absent from the area's XSTATE_BV are in their initial state and are written as zeros.
// Throws RefusedError for components that the images cannot hold (AMX tiles).
void encode_xstate(std::span<const std::byte> area, pb::user_x86_fpregs_entry& entry);
// Lays the entry over `area`, which holds the state of any 64-bit task of this machine and gives the size.
// Throws FormatError when the entry is not of the right shape, Error when this processor lacks a component in
// use.
void decode_xstate(const pb::user_x86_fpregs_entry& entry, std::span<std::byte> area);

}  // namespace godwit::task
