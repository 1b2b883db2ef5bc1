#pragma once

#include <sys/types.h>

namespace godwit::kernel {

// kcmp(2): how an object of one process stands to that of another in the kernel's hidden but stable order:
// negative, 0 (the same object) or positive, so that objects can be sorted. `type` is KCMP_FILE, KCMP_VM,
// ...; the last two are what the type needs (descriptor numbers for KCMP_FILE). Throws SystemError.
int kcmp_order(pid_t first, pid_t second, int type, unsigned long first_index = 0,
               unsigned long second_index = 0);

}  // namespace godwit::kernel
