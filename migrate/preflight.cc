#include "migrate/preflight.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>

#include "engine/base/error.h"
#include "engine/base/units.h"
#include "engine/files/path_file.h"
#include "engine/kernel/features.h"
#include "engine/kernel/text_fields.h"
#include "migrate/cpu_features.h"

namespace godwit::migrate {
namespace {

constexpr uint64_t kFreeReserve = 64 * kMiB;
constexpr int64_t kClockTolerance_ns = 2'000'000'000;

class Findings {
 public:
  void block(std::string what, std::string advice) { add(true, std::move(what), std::move(advice)); }
  void warn(std::string what, std::string advice) { add(false, std::move(what), std::move(advice)); }
  pb::findings take() { return std::move(list_); }

 private:
  void add(bool blocks, std::string what, std::string advice) {
    auto& finding = *list_.add_finding();
    finding.set_blocks(blocks);
    finding.set_what(std::move(what));
    if (!advice.empty()) finding.set_advice(std::move(advice));
  }
  pb::findings list_;
};

void check_features(const pb::preflight& question, Findings& findings) {
  for (const auto& feature : kernel::features()) {
    bool needed = feature.category == kernel::FeatureCategory::kRequired ||
                  (question.postcopy() && feature.name.starts_with("uffd"));
    if (!needed) continue;
    auto result = kernel::probe(feature);
    if (result.supported) continue;
    findings.block(fmt::format("the kernel lacks {}: {}", feature.name, result.reason),
                   "run the agent as root on a newer kernel, outside restricted containers");
  }
}

void check_cpu(const pb::preflight& question, Findings& findings) {
  CpuFeatures here = cpu_features_here();
  std::vector<std::string> needed(question.cpu_flags().begin(), question.cpu_flags().end());
  std::string missing;
  for (const auto& flag : missing_flags(needed, here.flags)) {
    missing += " " + flag;
  }
  uint64_t registers = question.xfeatures() & ~here.xfeatures;
  if (!missing.empty()) {
    findings.block("the processor lacks what the source's has:" + missing,
                   "move to a host with at least the source's processor features");
  } else if (registers != 0) {
    findings.block(
        fmt::format("registers are not saved here that are at the source (XCR0 bits {:#x})", registers),
        "enable the same XSAVE features on both hosts");
  }
}

void check_numbers(const pb::preflight& question, const PreflightSurroundings& here, Findings& findings) {
  std::string taken;
  for (uint32_t number : question.numbers()) {
    if (here.number_is_taken(number)) taken += fmt::format(" {}", number);
  }
  if (taken.empty()) return;
  findings.block("process numbers of the tree are taken:" + taken,
                 "end those processes, or run the agent in a pid namespace of its own");
}

void check_files(const pb::preflight& question, Findings& findings) {
  kinds::Problems problems;
  for (const auto& file : question.files()) {
    try {
      files::plan_path_file(file, problems);
    } catch (const Error& error) {
      problems.add("{}", error.what());
    }
  }
  for (const auto& problem : problems.texts()) {
    findings.block(problem, "make it the same on both hosts, then try again");
  }
}

uint64_t available_memory() {
  std::string text = read_file(AT_FDCWD, "/proc/meminfo");
  std::string_view rest = text;
  while (!rest.empty()) {
    std::string_view line = kernel::take_until(rest, '\n');
    if (kernel::take_until(line, ':') != "MemAvailable") continue;
    return kernel::parse_number<uint64_t>(kernel::take_word(line), "MemAvailable") * kKiB;
  }
  return 0;
}

void check_room(const pb::preflight& question, const PreflightSurroundings& here, Findings& findings) {
  uint64_t memory = available_memory();
  if (memory < question.memory_bytes() + kFreeReserve) {
    findings.block(fmt::format("{} MiB of memory are available, the tree has {} MiB resident", memory / kMiB,
                               question.memory_bytes() / kMiB),
                   "free memory on this host");
  }
  struct statvfs disk {};
  check(::statvfs(here.work_dir.c_str(), &disk), "statvfs({})", here.work_dir);
  uint64_t room = static_cast<uint64_t>(disk.f_bavail) * disk.f_frsize;
  // Rounds repeat pages, so as much again is asked for.
  uint64_t wanted = question.postcopy() ? kFreeReserve : 2 * question.memory_bytes() + kFreeReserve;
  if (room < wanted) {
    findings.block(fmt::format("{} has room for {} MiB, the move may need {}", here.work_dir, room / kMiB,
                               wanted / kMiB),
                   "free space, or give the agent another --work-dir");
  }
}

int64_t now_ns(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

void check_clocks(const pb::preflight& question, Findings& findings) {
  double behind =
      static_cast<double>(static_cast<int64_t>(question.monotonic_ns()) - now_ns(CLOCK_MONOTONIC)) / 1e9;
  if (behind > 0.5) {
    findings.warn(
        fmt::format("CLOCK_MONOTONIC is {:.0f} s behind the source's: it goes backwards for the tree",
                    behind),
        "programs that keep absolute monotonic times may wait that much longer; time namespaces are "
        "not available yet");
  }
  int64_t apart = std::abs(question.realtime_ns() - now_ns(CLOCK_REALTIME));
  if (apart > kClockTolerance_ns) {
    findings.warn(fmt::format("the hosts' clocks are {:.1f} s apart", static_cast<double>(apart) / 1e9),
                  "synchronise them (chrony, systemd-timesyncd)");
  }
}

}  // namespace

PreflightSurroundings surroundings_here(const std::string& work_dir) {
  return {work_dir, [](uint32_t number) {
            // Threads are found here too, though they are not listed.
            return ::access(fmt::format("/proc/{}", number).c_str(), F_OK) == 0;
          }};
}

pb::findings check_preflight(const pb::preflight& question, const PreflightSurroundings& here) {
  Findings findings;
  check_features(question, findings);
  check_cpu(question, findings);
  check_numbers(question, here, findings);
  check_files(question, findings);
  check_room(question, here, findings);
  check_clocks(question, findings);
  return findings.take();
}

}  // namespace godwit::migrate
