#include "migrate/task_identity.h"

#include <fcntl.h>

#include "engine/base/fd.h"
#include "engine/kernel/proc_task.h"
#include "engine/kernel/text_fields.h"
#include "proto/images/inventory.pb.h"

namespace godwit::migrate {

std::vector<TaskIdentity> identities_of(const images::ImageDirectory& images) {
  std::vector<TaskIdentity> tasks;
  for (const auto& entry : images.open(images::Kind::kPstree).read_all<pb::pstree_entry>()) {
    auto pid = static_cast<pid_t>(entry.pid());
    auto stat = kernel::read_task_stat(pid, pid);
    if (stat.state != 'Z' && stat.state != 'X') tasks.push_back({pid, stat.start_time});
  }
  return tasks;
}

bool is_alive(const TaskIdentity& task) {
  auto stat = kernel::read_task_stat_if_alive(task.pid, task.pid);
  if (!stat || stat->start_time != task.start_time || stat->state == 'Z' || stat->state == 'X') return false;
  // A process that has begun to exit has no memory any more, though freeing it may take long.
  return read_link_if_exists(AT_FDCWD, fmt::format("/proc/{}/exe", task.pid)).has_value();
}

std::string to_text(const std::vector<TaskIdentity>& tasks) {
  std::string text;
  for (const auto& task : tasks) {
    text += fmt::format("{}{}:{}", text.empty() ? "" : " ", task.pid, task.start_time);
  }
  return text;
}

std::vector<TaskIdentity> parse_identities(std::string_view text) {
  std::vector<TaskIdentity> tasks;
  for (auto word = kernel::take_word(text); !word.empty(); word = kernel::take_word(text)) {
    auto pid = kernel::take_until(word, ':');
    tasks.push_back({kernel::parse_number<pid_t>(pid, "pid"), kernel::parse_number<uint64_t>(word, "time")});
  }
  return tasks;
}

}  // namespace godwit::migrate
