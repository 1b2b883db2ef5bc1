#include "engine/kernel/kcmp.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/error.h"

namespace godwit::kernel {

int kcmp_order(pid_t first, pid_t second, int type, unsigned long first_index, unsigned long second_index) {
  long order = check(::syscall(SYS_kcmp, first, second, type, first_index, second_index), "kcmp({}, {}, {})",
                     first, second, type);
  // 1: less, 2: greater, 3: different without an order, which no kernel that can dump answers.
  return order == 0 ? 0 : order == 1 ? -1 : 1;
}

}  // namespace godwit::kernel
