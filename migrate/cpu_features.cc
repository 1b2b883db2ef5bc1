#include "migrate/cpu_features.h"

#include <fcntl.h>

#include <algorithm>
#include <iterator>
#include <set>

#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/kernel/text_fields.h"

namespace godwit::migrate {
namespace {

// Instructions that programs choose by CPUID. What only the kernel uses (pcid, smep, vmx) may differ.
constexpr std::string_view kUserSpaceFlags[] = {
    "3dnowprefetch",
    "abm",
    "adx",
    "aes",
    "amx_bf16",
    "amx_int8",
    "amx_tile",
    "avx",
    "avx2",
    "avx512_4fmaps",
    "avx512_4vnniw",
    "avx512_bf16",
    "avx512_bitalg",
    "avx512_fp16",
    "avx512_vbmi2",
    "avx512_vnni",
    "avx512_vp2intersect",
    "avx512_vpopcntdq",
    "avx512bw",
    "avx512cd",
    "avx512dq",
    "avx512er",
    "avx512f",
    "avx512ifma",
    "avx512pf",
    "avx512vbmi",
    "avx512vl",
    "avx_vnni",
    "bmi1",
    "bmi2",
    "cldemote",
    "clflushopt",
    "clwb",
    "clzero",
    "cmov",
    "cx16",
    "cx8",
    "erms",
    "f16c",
    "fma",
    "fma4",
    "fsgsbase",
    "fsrm",
    "fxsr",
    "gfni",
    "lahf_lm",
    "mmx",
    "movbe",
    "movdir64b",
    "movdiri",
    "pclmulqdq",
    "pku",
    "popcnt",
    "prefetchwt1",
    "ptwrite",
    "rdpid",
    "rdrand",
    "rdseed",
    "rdtscp",
    "rtm",
    "serialize",
    "sha_ni",
    "sse",
    "sse2",
    "sse4_1",
    "sse4_2",
    "sse4a",
    "ssse3",
    "pni",
    "tbm",
    "tsc",
    "tsxldtrk",
    "vaes",
    "vpclmulqdq",
    "waitpkg",
    "xop",
    "xsave",
    "xsavec",
    "xsaveopt",
    "xsaves",
};

uint64_t read_xcr0() {
  uint32_t low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

}  // namespace

std::vector<std::string> user_space_flags(std::string_view cpuinfo) {
  std::set<std::string_view> wanted(std::begin(kUserSpaceFlags), std::end(kUserSpaceFlags));
  while (!cpuinfo.empty()) {
    std::string_view line = kernel::take_until(cpuinfo, '\n');
    if (!line.starts_with("flags")) continue;
    kernel::take_until(line, ':');
    std::set<std::string> found;
    for (auto word = kernel::take_word(line); !word.empty(); word = kernel::take_word(line)) {
      if (wanted.contains(word)) found.emplace(word);
    }
    return {found.begin(), found.end()};
  }
  throw FormatError("/proc/cpuinfo: no line of flags");
}

std::vector<std::string> missing_flags(std::span<const std::string> needed,
                                       std::span<const std::string> available) {
  std::vector<std::string> missing;
  std::ranges::set_difference(needed, available, std::back_inserter(missing));
  return missing;
}

CpuFeatures cpu_features_here() {
  CpuFeatures features;
  features.flags = user_space_flags(read_file(AT_FDCWD, "/proc/cpuinfo"));
  if (std::ranges::binary_search(features.flags, "xsave")) features.xfeatures = read_xcr0();
  return features;
}

}  // namespace godwit::migrate
