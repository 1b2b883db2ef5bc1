#include "engine/commands/command_setup.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>

#include "engine/base/error.h"
#include "engine/base/log.h"

namespace godwit::commands {
namespace {

std::string absolute_directory(const std::string& path) {
  open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);  // says what is wrong with it
  char resolved[PATH_MAX];
  if (::realpath(path.c_str(), resolved) == nullptr) throw SystemError(errno, "realpath({})", path);
  return resolved;
}

}  // namespace

CommandSetup::CommandSetup(options::CommonOptions& common) {
  {
    ErrorContext context{"image directory {}", common.images_dir};
    common.images_dir = absolute_directory(common.images_dir);
  }
  const std::string& work_dir = common.work_dir.value_or(common.images_dir);
  check(::chdir(work_dir.c_str()), "work directory {}: chdir", work_dir);
  auto level = static_cast<log::Level>(std::min(common.verbosity, static_cast<int>(log::Level::kDebug)));
  int output = STDERR_FILENO;
  if (common.log_file == "-") {
    output = STDOUT_FILENO;
  } else if (common.log_file) {
    ErrorContext context{"log file"};
    // Appending, because action scripts write to it too.
    log = open_at(AT_FDCWD, *common.log_file, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
    output = log.get();
  }
  log::open(output, level);
}

void write_pidfile(const std::string& path, pid_t pid) {
  ErrorContext context{"--pidfile"};
  Fd file = open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL, 0600);
  std::string text = fmt::format("{}", pid);
  write_all(file.get(), std::as_bytes(std::span(text)), path.c_str());
}

void write_pidfile(const std::optional<std::string>& path, pid_t pid) {
  if (path) write_pidfile(*path, pid);
}

void signal_ready(std::optional<int> status_fd) {
  if (!status_fd) return;
  Fd fd(*status_fd);
  const std::byte nul{0};
  write_all(fd.get(), std::span(&nul, 1), "--status-fd");
}

}  // namespace godwit::commands
