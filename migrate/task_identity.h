#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/images/image_directory.h"

namespace godwit::migrate {

// A process that cannot be mistaken for a later one with the same pid.
struct TaskIdentity {
  pid_t pid = 0;
  uint64_t start_time = 0;  // clock ticks since boot
  bool operator==(const TaskIdentity&) const = default;
};

// The living processes of a dump's images (zombies left out), which exist now. Throws SystemError when one
// does not.
std::vector<TaskIdentity> identities_of(const images::ImageDirectory& images);
// Whether it exists and has not begun to exit.
bool is_alive(const TaskIdentity& task);

// "42:1234 43:1240", as journals keep them; parse throws FormatError.
std::string to_text(const std::vector<TaskIdentity>& tasks);
std::vector<TaskIdentity> parse_identities(std::string_view text);

}  // namespace godwit::migrate
