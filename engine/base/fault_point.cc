#include "engine/base/fault_point.h"

#ifdef GODWIT_FAULT_POINTS

#include <csignal>
#include <cstdlib>
#include <string_view>

#include "engine/base/error.h"

namespace godwit {

void fault_point(const char* name) {
  static const char* const wanted = std::getenv("GODWIT_FAULT_POINT");
  if (wanted == nullptr) return;
  std::string_view spec = wanted;
  size_t equals = spec.find('=');
  if (equals == std::string_view::npos || spec.substr(0, equals) != name) return;
  std::string_view action = spec.substr(equals + 1);
  if (action == "kill") ::raise(SIGKILL);
  if (action == "stop") ::raise(SIGSTOP);
  if (action == "fail") throw Error("fault point {}", name);
}

}  // namespace godwit

#endif
