#include "migrate/shell_command.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <string_view>

#include "engine/base/cleanup.h"
#include "engine/base/error.h"
#include "engine/base/log.h"

namespace godwit::migrate {
namespace {

std::vector<std::string> environment_with(const EnvironmentEntries& added) {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    std::string_view text = *entry;
    if (!text.starts_with("CRTOOLS_") && !text.starts_with("GODWIT_FAULT_POINT=")) result.emplace_back(text);
  }
  for (const auto& [name, value] : added) result.push_back(name + "=" + value);
  return result;
}

pid_t spawn_shell(std::string command, std::vector<std::string> environment) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawnattr_init(&attributes);
  Cleanup destroy([&] {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  });
  ::posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  ::posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  sigset_t none, all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  std::string shell = "/bin/sh", option = "-c";
  char* arguments[] = {shell.data(), option.data(), command.data(), nullptr};
  std::vector<char*> variables;
  for (auto& entry : environment) variables.push_back(entry.data());
  variables.push_back(nullptr);
  pid_t pid = 0;
  int code = ::posix_spawn(&pid, shell.c_str(), &actions, &attributes, arguments, variables.data());
  if (code != 0) throw SystemError(code, "posix_spawn(/bin/sh)");
  return pid;
}

}  // namespace

void run_shell_command(const std::string& command, const EnvironmentEntries& environment) {
  pid_t pid = spawn_shell(command, environment_with(environment));
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) throw SystemError(errno, "waitpid({})", pid);
  }
  if (WIFSIGNALED(status)) {
    throw Error("{}: ended by signal {} ({})", command, WTERMSIG(status), ::strsignal(WTERMSIG(status)));
  }
  if (WEXITSTATUS(status) != 0) throw Error("{}: exit status {}", command, WEXITSTATUS(status));
}

void ActionCommands::run(kinds::Stage stage, pid_t root_pid) {
  if (commands_.empty()) return;
  ErrorContext context{"action script, stage {}", std::string(kinds::stage_name(stage))};
  EnvironmentEntries environment = {{"CRTOOLS_SCRIPT_ACTION", std::string(kinds::stage_name(stage))},
                                    {"GODWIT_MOVE_ID", move_id_}};
  if (root_pid > 0) environment.emplace_back("CRTOOLS_INIT_PID", std::to_string(root_pid));
  for (const auto& command : commands_) run_shell_command(command, environment);
}

}  // namespace godwit::migrate
