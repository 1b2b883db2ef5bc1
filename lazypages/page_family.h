#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "lazypages/lazy_task.h"
#include "lazypages/page_schedule.h"
#include "lazypages/source_link.h"

namespace godwit::lazypages {

// All address spaces that wait for pages of one image: a restored task and the children it has forked since.
// A page comes once for all of them.
class PageFamily {
 public:
  explicit PageFamily(uint64_t pid) : pid_(pid) {}

  LazyTask& adopt(std::unique_ptr<LazyTask> task);

  // A fault of a member at a page address.
  void fault(LazyTask& task, uint64_t address, Statistics& statistics);
  // Places what arrived with all who miss it; what did not come is asked for again.
  void arrived(const SourceLink::Arrival& arrival, Statistics& statistics);
  // Tries again what a changing address space held up.
  void retry(Statistics& statistics);
  bool has_to_retry() const;

  // Sends what somebody waits for.
  void request_wanted(SourceLink& link);
  // Sends one request that nobody waits for yet: of predicted pages only, or of any. False: there is none.
  bool request_predicted(SourceLink& link, uint64_t most);
  bool request_any(SourceLink& link, uint64_t most);
  void link_lost() { schedule_.forget_requests(); }

  // Takes out the members that need nothing more.
  std::vector<std::unique_ptr<LazyTask>> extract_done();
  const std::vector<std::unique_ptr<LazyTask>>& tasks() const { return tasks_; }
  uint64_t pid() const { return pid_; }

 private:
  struct HeldUp {
    kinds::PageRange range;
    std::vector<std::byte> bytes;
  };
  bool place(kinds::PageRange range, std::span<const std::byte> bytes, Statistics& statistics);
  bool request(LazyTask& task, SourceLink& link, uint64_t most);

  uint64_t pid_;
  PageSchedule schedule_;
  std::vector<std::unique_ptr<LazyTask>> tasks_;
  std::vector<HeldUp> held_up_;
};

}  // namespace godwit::lazypages
