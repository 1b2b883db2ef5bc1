#include "engine/files/descriptor_list.h"

#include <dirent.h>

#include <algorithm>
#include <memory>
#include <string>

#include "engine/base/error.h"
#include "engine/kernel/text_fields.h"

namespace godwit::files {

std::vector<int> list_descriptors(pid_t pid) {
  std::string path = fmt::format("/proc/{}/fd", pid);
  std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(path.c_str()), ::closedir);
  if (!directory) throw SystemError(errno, "opendir({})", path);
  std::vector<int> numbers;
  for (;;) {
    errno = 0;
    dirent* item = ::readdir(directory.get());
    if (!item) break;
    if (item->d_name[0] == '.') continue;
    numbers.push_back(kernel::parse_number<int>(item->d_name, path.c_str()));
  }
  if (errno != 0) throw SystemError(errno, "readdir({})", path);
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

}  // namespace godwit::files
