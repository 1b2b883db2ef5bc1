#pragma once

#include <doctest/doctest.h>

#include <string>

// A test that cannot run here says why and returns; the program then ends with 77, which ctest counts as
// skipped, unless something else in it failed:   if (!has_kvm()) GODWIT_SKIP("no /dev/kvm");
#define GODWIT_SKIP(reason)                        \
  do {                                             \
    ::godwit::test::record_skip(reason, __FILE__); \
    return;                                        \
  } while (false)

namespace godwit::test {

void record_skip(const std::string& reason, const char* file);

}  // namespace godwit::test
