#pragma once

#include <sys/types.h>

#include <map>
#include <string>

namespace godwit::test {

// What /proc says of a process that a restore must bring back to the letter: name -> text. maps, VmFlags,
// the fields of stat and status that do not count anything, limits, cmdline, environ, exe, cwd, root and the
// descriptors' targets.
std::map<std::string, std::string> proc_picture(pid_t pid);

// The lines in which two pictures differ, "" when they are the same.
std::string difference(const std::map<std::string, std::string>& before,
                       const std::map<std::string, std::string>& after);

}  // namespace godwit::test
