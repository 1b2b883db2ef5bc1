#include "engine/base/error.h"

#include <cstring>

namespace godwit {
namespace {

thread_local const internal::ErrorContextBase* t_innermost = nullptr;

}  // namespace

namespace internal {

ErrorContextBase::ErrorContextBase() noexcept : outer_(t_innermost) {
  t_innermost = this;
}
ErrorContextBase::~ErrorContextBase() {
  t_innermost = outer_;
}

}  // namespace internal

Error::Error(Finished, const std::string& text) : text_(text) {
  for (const auto* context = t_innermost; context != nullptr; context = context->outer()) {
    text_ = context->describe() + ": " + text_;
  }
}

std::string SystemError::errno_text(int code) {
  char buffer[128];
  return ::strerror_r(code, buffer, sizeof buffer);
}

}  // namespace godwit
