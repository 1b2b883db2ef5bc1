#pragma once

#include <string>
#include <vector>

#include "engine/base/fd.h"
#include "engine/kinds/stage_hooks.h"
#include "engine/options/commands_options.h"

namespace godwit::commands {

// Runs the --action-script programs at every stage, in the order given. Their environment is ours plus
// CRTOOLS_SCRIPT_ACTION and its spelling of 2012, CRTOOL_SCRIPT_ACTION (the stage), CRTOOLS_IMAGE_DIR, and,
// once there is a root task, CRTOOLS_INIT_PID. They run in the work directory and in our namespaces, with
// nothing but standard input (/dev/null), output and error (both the log). A script is a program looked up as
// by execvp(3). For the operators of 2012 to 2016, whose criu used system(3), a text with blanks that names
// no program is run by /bin/sh -c.
class ActionScripts final : public kinds::StageHooks {
 public:
  // `images_dir` is borrowed for as long as this lives; the options' log file must already be open
  // (CommandSetup).
  ActionScripts(const options::CommonOptions& common, int images_dir);

  // Runs all scripts, then throws Error that names each script that failed, the stage and the status.
  void run(kinds::Stage stage, pid_t root_pid) override;

 private:
  std::vector<std::string> scripts_;
  int images_dir_;
  Fd output_;
};

}  // namespace godwit::commands
