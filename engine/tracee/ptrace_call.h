#pragma once

#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>

#include <cerrno>
#include <cstdint>

#include "engine/base/error.h"

namespace godwit::tracee {

// ptrace(2), or SystemError that names the request and the thread.
#define GODWIT_PTRACE(request, tid, address, data) \
  ::godwit::tracee::ptrace_or_throw(#request, request, tid, address, data)

template <class Address, class Data>
long ptrace_or_throw(const char* name, __ptrace_request request, pid_t tid, Address address, Data data) {
  errno = 0;
  long result = ::ptrace(request, tid, address, data);
  if (result < 0 && errno != 0) throw SystemError(errno, "tid {}: {}", tid, name);
  return result;
}

// For code that knows a thread by its tid only; Tracee has the same as methods.
user_regs_struct get_registers(pid_t tid);
void set_registers(pid_t tid, const user_regs_struct& registers);
void set_signal_mask(pid_t tid, uint64_t mask);
void resume(pid_t tid, int signal = 0);
void resume_to_system_call(pid_t tid, int signal = 0);

}  // namespace godwit::tracee
