#include <fcntl.h>

#include "engine/base/fd.h"
#include "engine/base/units.h"
#include "engine/dump/dump.h"
#include "engine/kernel/proc_task.h"
#include "engine/kernel/text_fields.h"

namespace godwit::dump {
namespace {

// The children that the leader of a process has made; those of its other threads are rare enough for an
// estimate.
std::vector<pid_t> children_of(pid_t pid) {
  std::vector<pid_t> children;
  auto text = read_file_if_exists(AT_FDCWD, fmt::format("/proc/{}/task/{}/children", pid, pid));
  std::string_view rest = text ? std::string_view(*text) : std::string_view();
  for (auto word = kernel::take_word(rest); !word.empty(); word = kernel::take_word(rest)) {
    children.push_back(kernel::parse_number<pid_t>(word, "children"));
  }
  return children;
}

}  // namespace

std::vector<uint64_t> estimate_memory(pid_t root) {
  std::vector<uint64_t> sizes;
  std::vector<pid_t> tree{root};
  for (size_t i = 0; i < tree.size(); ++i) {
    if (auto status = kernel::read_task_status_if_alive(tree[i], tree[i])) {
      sizes.push_back((status->anonymous_kib + status->swap_kib) * kKiB);
    }
    for (pid_t child : children_of(tree[i])) tree.push_back(child);
  }
  return sizes;
}

}  // namespace godwit::dump
