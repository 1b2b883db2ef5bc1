#include "engine/kernel/features.h"

#include <dirent.h>
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>

#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/kernel/feature_probes.h"
#include "tests/support/skip.h"

namespace godwit::kernel {
namespace {

bool is_root() {
  return ::geteuid() == 0;
}

size_t open_descriptors() {
  DIR* directory = ::opendir("/proc/self/fd");
  REQUIRE(directory != nullptr);
  size_t count = 0;
  while (::readdir(directory) != nullptr) ++count;
  ::closedir(directory);
  return count;
}

// What every kernel since 5.6 has and no configuration we know takes away from root.
TEST_CASE("old interfaces are found") {
  if (!is_root()) GODWIT_SKIP("probes of other processes need root");
  for (const char* name : {"map_files", "sock_diag", "kcmp", "pidfd_getfd", "process_vm_readv", "set_mm_map",
                           "clone3_set_tid", "peeksiginfo", "sock_peek_off", "tcp_repair", "mnt_id", "memfd",
                           "timerfd", "fdinfo_lock", "openat2", "ns_pid", "sk_ns", "seccomp_filters"}) {
    FeatureResult result = probe(name);
    INFO(name << ": " << result.reason);
    CHECK(result.supported);
  }
}

TEST_CASE("interfaces of Linux 6.7 are found together") {
  if (!is_root()) GODWIT_SKIP("userfaultfd needs root");
  FeatureResult scan = probe("pagemap_scan");
  if (!scan.supported) GODWIT_SKIP("this kernel has no PAGEMAP_SCAN: " + scan.reason);
  for (const char* name : {"uffd", "uffd-noncoop", "uffd-wp-async"}) {
    FeatureResult result = probe(name);
    INFO(name << ": " << result.reason);
    CHECK(result.supported);
  }
}

TEST_CASE("the dirty tracker follows from the probes") {
  DirtyTracking tracking = available_dirty_tracking();
  if (probe("soft_dirty").supported) {
    CHECK(tracking == DirtyTracking::kSoftDirty);
  } else if (probe("uffd-wp-async").supported) {
    CHECK(tracking == DirtyTracking::kWriteProtect);
  } else {
    CHECK(tracking == DirtyTracking::kNone);
  }
}

// The kernel tells by another way whether the bits exist: smaps has a VmFlags "sd" for soft-dirty mappings,
// which is there for every new mapping where CONFIG_MEM_SOFT_DIRTY is on.
TEST_CASE("soft-dirty is found exactly where mappings carry its flag") {
  std::string smaps = read_file(AT_FDCWD, "/proc/self/smaps");
  bool has_flag = false;
  for (size_t at = smaps.find("VmFlags:"); at != std::string::npos; at = smaps.find("VmFlags:", at + 1)) {
    std::string line = smaps.substr(at, smaps.find('\n', at) - at);
    if (line.find(" sd") != std::string::npos) has_flag = true;
  }
  CHECK(probe("soft_dirty").supported == has_flag);
}

TEST_CASE("every feature is either supported or says why not, and leaves nothing behind") {
  size_t descriptors = open_descriptors();
  for (const Feature& feature : features()) {
    FeatureResult result = probe(feature);
    CAPTURE(feature.name);
    CHECK(result.supported == result.reason.empty());
    CHECK(open_descriptors() == descriptors);
    bool no_child_left = ::waitpid(-1, nullptr, WNOHANG | __WALL) < 0 && errno == ECHILD;
    CHECK(no_child_left);
  }
}

TEST_CASE("features have names of their own and stand by category") {
  std::set<std::string_view> names;
  FeatureCategory last = FeatureCategory::kRequired;
  for (const Feature& feature : features()) {
    CHECK(names.insert(feature.name).second);
    CHECK(feature.category >= last);
    last = feature.category;
    CHECK(find_feature(feature.name) == &feature);
  }
  CHECK(find_feature("no such thing") == nullptr);
  CHECK_THROWS_AS(probe("no such thing"), Error);
}

TEST_CASE("a probe that dies is an answer") {
  FeatureResult killed = probes::in_child([]() -> FeatureResult {
    ::raise(SIGSYS);
    return probes::supported();
  });
  CHECK_FALSE(killed.supported);
  CHECK(killed.reason.find("signal 31") != std::string::npos);
  FeatureResult thrown = probes::in_child([]() -> FeatureResult { throw Error("no way"); });
  CHECK(thrown.reason == "no way");
  CHECK(probes::in_child(probes::supported).supported);
}

}  // namespace
}  // namespace godwit::kernel
