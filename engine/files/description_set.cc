#include "engine/files/description_set.h"

#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/error.h"

namespace godwit::files {

bool DescriptionSet::KernelOrder::operator()(const Known& left, const Known& right) const {
  long order = check(
      ::syscall(SYS_kcmp, left.place.pid, right.place.pid, KCMP_FILE, left.place.number, right.place.number),
      "kcmp({}, {}, KCMP_FILE, {}, {})", left.place.pid, right.place.pid, left.place.number,
      right.place.number);
  if (order > 2) throw Error("kcmp(KCMP_FILE): the kernel does not order descriptions");
  return order == 1;
}

DescriptionSet::Inode DescriptionSet::inode_of(const struct stat& status) {
  return {status.st_dev, status.st_ino, status.st_mode & S_IFMT};
}

std::optional<uint32_t> DescriptionSet::find(DescriptorPlace place, const struct stat& status) const {
  auto group = known_.find(inode_of(status));
  if (group == known_.end()) return std::nullopt;
  auto found = group->second.find(Known{place, 0});
  if (found == group->second.end()) return std::nullopt;
  return found->id;
}

void DescriptionSet::add(DescriptorPlace place, const struct stat& status, uint32_t id) {
  known_[inode_of(status)].insert(Known{place, id});
}

}  // namespace godwit::files
