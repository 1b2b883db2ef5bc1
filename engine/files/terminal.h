#pragma once

#include <memory>

#include "engine/kinds/file_kind.h"

namespace godwit::files {

// Terminals of jobs that were started from a shell (Policy::shell_job): the terminal side of a pseudo
// terminal, whose other side belongs to somebody outside. A restore gives the tasks the terminal that is its
// own standard input, with the modes of the old one. TTY entries, tty-info.img.
std::unique_ptr<kinds::FileKind> make_terminal_kind();

}  // namespace godwit::files
