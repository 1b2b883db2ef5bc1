#pragma once

#include <stdlib.h>

#include <cerrno>
#include <filesystem>
#include <string>

#include "engine/base/error.h"

namespace godwit::bench {

// A new directory for images and raw files, removed with everything in it.
class ScratchDirectory {
 public:
  explicit ScratchDirectory(const std::string& parent) : path_(parent + "/godwit-bench-XXXXXX") {
    if (::mkdtemp(path_.data()) == nullptr) throw SystemError(errno, "mkdtemp({})", path_);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::string path(const std::string& name) const { return path_ + "/" + name; }
  // An empty directory of that name; what stood in it is gone.
  std::string fresh_directory(const std::string& name) {
    remove(name);
    std::filesystem::create_directory(path(name));
    return path(name);
  }
  void remove(const std::string& name) { std::filesystem::remove_all(path(name)); }

 private:
  std::string path_;
};

}  // namespace godwit::bench
