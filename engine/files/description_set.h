#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <tuple>

namespace godwit::files {

// A descriptor of a frozen process.
struct DescriptorPlace {
  pid_t pid = 0;
  int number = -1;
};

// Finds out which descriptors refer to one open file description. Two can only do so when they show the same
// inode; among those, kcmp(2) orders descriptions (by address, which the kernel scrambles), so that n
// descriptors cost n log n calls and most of them none.
class DescriptionSet {
 public:
  // The id under which this description was added before.
  std::optional<uint32_t> find(DescriptorPlace place, const struct stat& status) const;
  // Adds one that find() does not know.
  void add(DescriptorPlace place, const struct stat& status, uint32_t id);

 private:
  struct Known {
    DescriptorPlace place;
    uint32_t id = 0;
  };
  struct KernelOrder {
    bool operator()(const Known& left, const Known& right) const;
  };
  using Inode = std::tuple<dev_t, ino_t, mode_t>;
  static Inode inode_of(const struct stat& status);

  std::map<Inode, std::set<Known, KernelOrder>> known_;
};

}  // namespace godwit::files
