#include "engine/commands/action_script.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <string_view>

#include "engine/base/error.h"
#include "engine/base/log.h"

namespace godwit::commands {
namespace {

using Words = std::vector<std::string>;

// Pointers as execve(2) wants them; valid while `words` is unchanged.
std::vector<char*> pointers(Words& words) {
  std::vector<char*> result;
  for (std::string& word : words) result.push_back(word.data());
  result.push_back(nullptr);
  return result;
}

Words script_environment(kinds::Stage stage, pid_t root_pid, int images_dir) {
  Words result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    std::string_view text = *entry;
    if (!text.starts_with("CRTOOLS_") && !text.starts_with("CRTOOL_SCRIPT_ACTION="))
      result.emplace_back(text);
  }
  result.push_back(fmt::format("CRTOOLS_SCRIPT_ACTION={}", kinds::stage_name(stage)));
  result.push_back(fmt::format("CRTOOL_SCRIPT_ACTION={}", kinds::stage_name(stage)));
  result.push_back(fmt::format("CRTOOLS_IMAGE_DIR=/proc/{}/fd/{}", ::getpid(), images_dir));
  if (root_pid > 0) result.push_back(fmt::format("CRTOOLS_INIT_PID={}", root_pid));
  return result;
}

// posix_spawn(3)'s two objects, destroyed together.
class SpawnSettings {
 public:
  explicit SpawnSettings(int output) {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawnattr_init(&attributes_);
    ::posix_spawn_file_actions_addopen(&actions_, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_adddup2(&actions_, output, STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions_, output, STDERR_FILENO);
    ::posix_spawn_file_actions_addclosefrom_np(&actions_, STDERR_FILENO + 1);
    sigset_t none, all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    ::posix_spawnattr_setsigdefault(&attributes_, &all);  // we ignore SIGPIPE; a script must not
    ::posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
  ~SpawnSettings() {
    ::posix_spawn_file_actions_destroy(&actions_);
    ::posix_spawnattr_destroy(&attributes_);
  }

  // An errno, 0 on success.
  int spawn(pid_t& pid, Words command, Words environment) const {
    auto arguments = pointers(command);
    return ::posix_spawnp(&pid, arguments[0], &actions_, &attributes_, arguments.data(),
                          pointers(environment).data());
  }

 private:
  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
};

// Starts the script. Throws SystemError when there is no such program.
pid_t start(const std::string& script, const Words& environment, int output) {
  SpawnSettings settings(output);
  pid_t pid = 0;
  int error = settings.spawn(pid, {script}, environment);
  if (error == ENOEXEC) error = settings.spawn(pid, {"/bin/sh", script}, environment);  // no #!, as execvp(3)
  if (error == ENOENT && script.find_first_of(" \t") != std::string::npos) {
    error = settings.spawn(pid, {"/bin/sh", "-c", script}, environment);
  }
  if (error != 0) throw SystemError(error, "posix_spawn({})", script);
  return pid;
}

// What went wrong, in words; nothing when the script ended with 0.
std::optional<std::string> run_script(const std::string& script, const Words& environment, int output) {
  pid_t pid = 0;
  try {
    pid = start(script, environment, output);
  } catch (const SystemError& error) {
    return SystemError::errno_text(error.code());
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) throw SystemError(errno, "waitpid({})", pid);
  }
  if (WIFSIGNALED(status))
    return fmt::format("ended by signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status)));
  if (WEXITSTATUS(status) != 0) return fmt::format("exit status {}", WEXITSTATUS(status));
  return std::nullopt;
}

Fd open_output(const options::CommonOptions& common) {
  if (common.log_file == "-") return Fd(check(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3), "standard output"));
  if (common.log_file) return open_at(AT_FDCWD, *common.log_file, O_WRONLY | O_APPEND | O_CREAT, 0600);
  return Fd(check(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3), "standard error"));
}

}  // namespace

ActionScripts::ActionScripts(const options::CommonOptions& common, int images_dir)
    : scripts_(common.action_scripts), images_dir_(images_dir) {
  if (!scripts_.empty()) output_ = open_output(common);
}

void ActionScripts::run(kinds::Stage stage, pid_t root_pid) {
  if (scripts_.empty()) return;
  const Words environment = script_environment(stage, root_pid, images_dir_);
  std::string failures;
  for (const std::string& script : scripts_) {
    log::debug("stage {}: running {}", kinds::stage_name(stage), script);
    auto failure = run_script(script, environment, output_.get());
    if (failure) failures += fmt::format("{}{}: {}", failures.empty() ? "" : "; ", script, *failure);
  }
  if (!failures.empty()) throw Error("action script, stage {}: {}", kinds::stage_name(stage), failures);
}

}  // namespace godwit::commands
