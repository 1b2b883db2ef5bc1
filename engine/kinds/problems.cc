#include "engine/kinds/problems.h"

#include "engine/base/error.h"

namespace godwit::kinds {

void Problems::refuse_if_any(const char* what) const {
  if (texts_.empty()) return;
  if (texts_.size() == 1) throw RefusedError("{}: {}", what, texts_.front());
  std::string all;
  for (const auto& text : texts_) all += "\n  - " + text;
  throw RefusedError("{}, for {} reasons:{}", what, texts_.size(), all);
}

}  // namespace godwit::kinds
