#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "tests/support/temporary_directory.h"

namespace godwit::test {

// A guest program (tests/guests) that runs for a test, with a directory for its images. Ended with everything
// below it at the end of the scope.
class Guest {
 public:
  // Starts it and waits until it has made some rounds. Throws std::runtime_error if it does not.
  explicit Guest(const std::string& name, const std::vector<std::string>& arguments = {});
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;
  ~Guest();

  pid_t pid() const { return pid_; }
  // A directory that is there for the test: "images", "pre1".
  std::string directory(const std::string& name = "images");
  std::string path(const std::string& name) const { return directory_ / name; }

  // Rounds that it has made, and all that it found wrong.
  unsigned long rounds() const;
  std::string failures() const;
  // Waits until it has made more rounds than it has now; false when it stands still for ten seconds.
  bool goes_on(unsigned long rounds = 3) const;

  // Has the guest "files" connect to its own listening sockets in its next round. restore() does it too.
  void ask_for_connections();

  // criu dump of the guest into directory(), which must succeed and leave no process; throws with criu's
  // words.
  void dump(const std::vector<std::string>& options = {});
  // criu restore --restore-detached of what dump() wrote.
  void restore(const std::vector<std::string>& options = {});

 private:
  TemporaryDirectory directory_;
  std::string report_;
  pid_t pid_ = 0;
};

}  // namespace godwit::test
