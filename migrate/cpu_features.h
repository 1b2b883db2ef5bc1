#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace godwit::migrate {

// What a program may have found out about the processor and relies on after a move.
struct CpuFeatures {
  std::vector<std::string> flags;  // the kernel's words, only those that user space can use; sorted
  uint64_t xfeatures = 0;          // XCR0: which registers XSAVE saves
};

CpuFeatures cpu_features_here();
// The first processor's flags that matter, out of /proc/cpuinfo's text.
std::vector<std::string> user_space_flags(std::string_view cpuinfo);
// The flags of `needed` that `available` lacks; both sorted.
std::vector<std::string> missing_flags(std::span<const std::string> needed,
                                       std::span<const std::string> available);

}  // namespace godwit::migrate
