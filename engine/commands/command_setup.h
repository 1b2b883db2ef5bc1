#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "engine/base/fd.h"
#include "engine/options/commands_options.h"

namespace godwit::commands {

// What every command needs before it begins, set up in criu's order: the image directory is found, then the
// work directory entered, then the log opened in it.
struct CommandSetup {
  // Enters the work directory, opens the log, and makes `common.images_dir` absolute, so that it still means
  // the same afterwards. Throws SystemError that names what is missing.
  explicit CommandSetup(options::CommonOptions& common);

  Fd log;  // the -o file; empty when the log goes to standard error or ("-") standard output
};

// Writes a pid, without a new line as criu does, into a new file, relative to the work directory. A file that
// exists is an error, as it may belong to a server that still runs.
void write_pidfile(const std::string& path, pid_t pid);
// The same for --pidfile as given or not.
void write_pidfile(const std::optional<std::string>& path, pid_t pid);

// Writes one NUL byte to --status-fd and closes it: requests can be served now. Nothing for an empty
// optional.
void signal_ready(std::optional<int> status_fd);

}  // namespace godwit::commands
