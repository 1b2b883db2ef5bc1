#include "engine/commands/action_script.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "engine/base/error.h"
#include "tests/support/temporary_directory.h"

namespace godwit::commands {
namespace {

using kinds::Stage;

// Scripts in a directory of their own; their output goes to a log file there.
struct Scripts {
  test::TemporaryDirectory dir;
  options::CommonOptions common;
  Fd images = open_at(AT_FDCWD, dir.path(), O_RDONLY | O_DIRECTORY);

  Scripts() { common.log_file = dir / "log"; }

  void add(const std::string& name, const std::string& text) {
    std::string path = dir / name;
    std::ofstream(path) << text;
    ::chmod(path.c_str(), 0755);
    common.action_scripts.push_back(path);
  }
  void run(Stage stage, pid_t root_pid = 0) { ActionScripts(common, images.get()).run(stage, root_pid); }
  std::string failure(Stage stage) {
    try {
      run(stage);
    } catch (const Error& error) {
      return error.what();
    }
    return "nothing was thrown";
  }
  std::string log() { return read_file(AT_FDCWD, dir / "log"); }
};

TEST_CASE("a script sees stage, image directory and root pid, and writes into the log") {
  Scripts scripts;
  scripts.add("s",
              "#!/bin/sh\necho $CRTOOLS_SCRIPT_ACTION $CRTOOL_SCRIPT_ACTION $CRTOOLS_INIT_PID\nls "
              "$CRTOOLS_IMAGE_DIR >&2\n");
  scripts.run(Stage::kNetworkLock, 1234);
  CHECK(scripts.log() == "network-lock network-lock 1234\nlog\ns\n");
}

TEST_CASE("there is no root pid before there is a root task") {
  ::setenv("CRTOOLS_INIT_PID", "77", 1);  // left over from a criu that started us
  Scripts scripts;
  scripts.add("s", "#!/bin/sh\necho \"pid ${CRTOOLS_INIT_PID-none}\"\n");
  scripts.run(Stage::kPreRestore);
  ::unsetenv("CRTOOLS_INIT_PID");
  CHECK(scripts.log() == "pid none\n");
}

TEST_CASE("all scripts run, in order, and each failure is named with its stage and status") {
  Scripts scripts;
  scripts.add("a", "#!/bin/sh\necho a\nexit 3\n");
  scripts.add("b", "#!/bin/sh\necho b\n");
  scripts.add("c", "#!/bin/sh\necho c\nkill -9 $$\n");
  CHECK(scripts.failure(Stage::kPostDump) ==
        fmt::format("action script, stage post-dump: {}: exit status 3; {}: ended "
                    "by signal 9 (Killed)",
                    scripts.dir / "a", scripts.dir / "c"));
  CHECK(scripts.log() == "a\nb\nc\n");
}

TEST_CASE("a script that is not there, or may not be run, fails the stage") {
  Scripts scripts;
  scripts.common.action_scripts = {"/nonexistent/script"};
  CHECK(scripts.failure(Stage::kPreDump) ==
        "action script, stage pre-dump: /nonexistent/script: No such file or directory");
  scripts.common.action_scripts = {scripts.dir.path()};
  CHECK(scripts.failure(Stage::kPreDump).find("Permission denied") != std::string::npos);
}

TEST_CASE("a script without an interpreter line runs in a shell; a text with blanks is a command") {
  Scripts scripts;
  scripts.add("plain", "echo plain\n");
  scripts.common.action_scripts.push_back("echo one two; echo three");
  scripts.run(Stage::kPostResume);
  CHECK(scripts.log() == "plain\none two\nthree\n");
}

TEST_CASE("a script inherits standard descriptors only, and no ignored signals") {
  Scripts scripts;
  Fd leak(check(::open("/dev/null", O_RDONLY), "open"));  // not close-on-exec
  scripts.add("s",
              "#!/bin/sh\necho $(readlink /proc/self/fd/0)\nls /proc/$$/fd | tr '\\n' ' '\ngrep SigIgn "
              "/proc/$$/status\n");
  auto before = ::signal(SIGPIPE, SIG_IGN);
  scripts.run(Stage::kPreDump);
  ::signal(SIGPIPE, before);
  std::string log = scripts.log();
  CAPTURE(log);
  CHECK(log.starts_with("/dev/null\n0 1 "));
  CHECK(log.find(fmt::format(" {} ", leak.get())) == std::string::npos);
  uint64_t ignored = std::stoull(log.substr(log.find("SigIgn:") + 7), nullptr, 16);
  CHECK((ignored & (uint64_t{1} << (SIGPIPE - 1))) == 0);
}

TEST_CASE("without scripts every stage passes") {
  options::CommonOptions common;
  ActionScripts(common, -1).run(Stage::kPreResume, 1);
  kinds::NoStageHooks().run(Stage::kPreResume, 1);
}

TEST_CASE("stages have the manual's names") {
  CHECK(kinds::stage_name(Stage::kSetupNamespaces) == "setup-namespaces");
  CHECK(kinds::stage_name(Stage::kPostSetupNamespaces) == "post-setup-namespaces");
  CHECK(kinds::stage_name(Stage::kPreResume) == "pre-resume");
  CHECK(kinds::stage_name(Stage::kNetworkUnlock) == "network-unlock");
  CHECK(kinds::stage_name(Stage::kOrphanPtsMaster) == "orphan-pts-master");
  CHECK(kinds::stage_name(Stage::kQueryExtFiles) == "query-ext-files");
}

}  // namespace
}  // namespace godwit::commands
