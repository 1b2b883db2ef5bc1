#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

namespace godwit::kinds {

// What stands in the way of a dump or a restore, gathered so that the user sees all of it at once, before
// anything was changed or created.
class Problems {
 public:
  template <class... Args>
  void add(fmt::format_string<Args...> format, Args&&... args) {
    texts_.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
  const std::vector<std::string>& texts() const { return texts_; }
  // Throws RefusedError with every text, one per line, when there are any. `what` opens the message: "cannot
  // dump".
  void refuse_if_any(const char* what) const;

 private:
  std::vector<std::string> texts_;
};

}  // namespace godwit::kinds
