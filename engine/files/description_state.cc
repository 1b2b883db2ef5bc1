#include "engine/files/description_state.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"

namespace godwit::files {
namespace {

// Linux 3.6, CONFIG_CHECKPOINT_RESTORE: include/uapi/asm-generic/fcntl.h; not in glibc.
constexpr int kGetOwnerUids = 17;

}  // namespace

std::string place_of(const kinds::OpenFile& file) {
  return fmt::format("pid {}: fd {}: {}", file.pid, file.number, file.target);
}

pb::fown_entry no_owner() {
  pb::fown_entry owner;
  owner.set_uid(0);
  owner.set_euid(0);
  owner.set_signum(0);
  owner.set_pid_type(0);
  owner.set_pid(0);
  return owner;
}

pb::fown_entry collect_owner(const kinds::OpenFile& file) {
  pb::fown_entry owner = no_owner();
  if (file.flags & O_PATH) return owner;  // EBADF: such a file does no I/O
  int fd = file.duplicate.get();
  owner.set_signum(static_cast<uint32_t>(check(::fcntl(fd, F_GETSIG), "fcntl(F_GETSIG)")));
  f_owner_ex who{};
  check(::fcntl(fd, F_GETOWN_EX, &who), "fcntl(F_GETOWN_EX)");
  if (who.pid == 0) return owner;
  uid_t uids[2];
  check(::fcntl(fd, kGetOwnerUids, uids), "fcntl(F_GETOWNER_UIDS)");
  owner.set_pid(static_cast<uint32_t>(who.pid));
  owner.set_pid_type(static_cast<uint32_t>(who.type));
  owner.set_uid(uids[0]);
  owner.set_euid(uids[1]);
  return owner;
}

void set_status_flags(int fd, uint32_t flags) {
  check(::fcntl(fd, F_SETFL, static_cast<int>(flags)), "fcntl(F_SETFL, 0{:o})", flags);
}

void set_owner_signal(int fd, const pb::fown_entry& owner) {
  if (owner.signum() == 0) return;
  check(::fcntl(fd, F_SETSIG, static_cast<int>(owner.signum())), "fcntl(F_SETSIG, {})", owner.signum());
}

void set_owner(int fd, const pb::fown_entry& owner) {
  if (owner.pid() == 0) return;
  uid_t real, effective, saved;
  check(::getresuid(&real, &effective, &saved), "getresuid");
  f_owner_ex who{};
  who.type = static_cast<__pid_type>(owner.pid_type());
  who.pid = static_cast<pid_t>(owner.pid());
  // The kernel records the uids of whoever sets the owner, and later checks them against the receiver of the
  // signal. The saved uid stays, so that we come back. The raw calls change this thread only, glibc's
  // would change all.
  check(::syscall(SYS_setresuid, owner.uid(), owner.euid(), saved), "setresuid({}, {})", owner.uid(),
        owner.euid());
  Cleanup back([&] {
    ::syscall(SYS_setresuid, real, effective, saved);
    // A change of the effective uid takes this away, and with it the right of tasks to fetch descriptors.
    ::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
  });
  check(::fcntl(fd, F_SETOWN_EX, &who), "fcntl(F_SETOWN_EX, pid {})", who.pid);
}

const pb::fown_entry* owner_of(const pb::file_entry& entry) {
  if (entry.has_reg()) return &entry.reg().fown();
  if (entry.has_isk()) return &entry.isk().fown();
  if (entry.has_efd()) return &entry.efd().fown();
  if (entry.has_epfd()) return &entry.epfd().fown();
  if (entry.has_tfd()) return &entry.tfd().fown();
  if (entry.has_pipe()) return &entry.pipe().fown();
  if (entry.has_tty()) return &entry.tty().fown();
  return nullptr;
}

}  // namespace godwit::files
