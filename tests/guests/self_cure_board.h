#pragma once

#include <sys/types.h>

#include <atomic>

// What guest self_cure and its test share: a page of a file that both map.
struct SelfCureBoard {
  static constexpr int kThreads = 8;
  enum Role { kBusy, kPoll, kSleep, kFutex, kBlocked, kVector, kFiltered, kNearlyStrict };

  std::atomic<long> rounds[kThreads];
  std::atomic<pid_t> tids[kThreads];
  std::atomic<long> handled;        // signals that the filtered thread has got
  std::atomic<long> failures;       // things that were not as they should be
  std::atomic<long> first_failure;  // role * 1000 + line of the first one
};
