#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#include "tests/support/skip.h"

namespace {

constexpr int kSkippedStatus = 77;
int g_skips = 0;

}  // namespace

namespace godwit::test {

void record_skip(const std::string& reason, const char* file) {
  ++g_skips;
  std::printf("SKIPPED %s: %s\n", file, reason.c_str());
}

}  // namespace godwit::test

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  int status = context.run();
  if (status == 0 && g_skips > 0) return kSkippedStatus;
  return status;
}
