#include "lazypages/page_family.h"

#include <algorithm>
#include <utility>

#include "engine/base/units.h"

namespace godwit::lazypages {

LazyTask& PageFamily::adopt(std::unique_ptr<LazyTask> task) {
  tasks_.push_back(std::move(task));
  return *tasks_.back();
}

void PageFamily::fault(LazyTask& task, uint64_t address, Statistics& statistics) {
  if (auto image = task.wait_for(address, LazyTask::Clock::now())) {
    task.prediction.fault(address);
    schedule_.want(*image);
  } else if (task.settle_empty(address)) {
    ++statistics.zero_faults;
  } else {
    task.unsettled.push_back(address);
  }
}

void PageFamily::arrived(const SourceLink::Arrival& arrival, Statistics& statistics) {
  statistics.count(arrival.reason, arrival.came.pages);
  if (place(arrival.came, arrival.bytes, statistics)) {
    schedule_.settled(arrival.came);
  } else {
    held_up_.push_back({arrival.came, {arrival.bytes.begin(), arrival.bytes.end()}});
  }
  if (arrival.came.pages == arrival.asked.pages) return;
  kinds::PageRange rest{arrival.came.address + arrival.came.pages * kPageSize,
                        arrival.asked.pages - arrival.came.pages};
  schedule_.settled(rest);
  for (const auto& task : tasks_) {
    for (uint64_t image : task->waits_in(rest)) schedule_.want(image);
  }
}

bool PageFamily::place(kinds::PageRange range, std::span<const std::byte> bytes, Statistics& statistics) {
  bool complete = true;
  for (const auto& task : tasks_) complete = task->place(range, bytes, statistics) && complete;
  return complete;
}

void PageFamily::retry(Statistics& statistics) {
  for (HeldUp& held : std::exchange(held_up_, {})) {
    if (place(held.range, held.bytes, statistics)) {
      schedule_.settled(held.range);
    } else {
      held_up_.push_back(std::move(held));
    }
  }
  for (const auto& task : tasks_) {
    for (uint64_t address : std::exchange(task->unsettled, {})) fault(*task, address, statistics);
  }
}

bool PageFamily::has_to_retry() const {
  return !held_up_.empty() ||
         std::any_of(tasks_.begin(), tasks_.end(), [](const auto& task) { return !task->unsettled.empty(); });
}

void PageFamily::request_wanted(SourceLink& link) {
  while (auto page = schedule_.next_wanted()) link.request(pid_, *page, Reason::kFault);
}

bool PageFamily::request_predicted(SourceLink& link, uint64_t most) {
  for (const auto& task : tasks_) {
    if (task->prediction.range() && request(*task, link, most)) return true;
  }
  return false;
}

bool PageFamily::request_any(SourceLink& link, uint64_t most) {
  return std::any_of(tasks_.begin(), tasks_.end(),
                     [&](const auto& task) { return request(*task, link, most); });
}

bool PageFamily::request(LazyTask& task, SourceLink& link, uint64_t most) {
  if (task.is_done()) return false;  // ended, and about to be taken out
  auto choice = schedule_.next_background(task.missing(), task.prediction, task.cursor, most);
  if (choice) link.request(pid_, choice->range, choice->reason);
  return choice.has_value();
}

std::vector<std::unique_ptr<LazyTask>> PageFamily::extract_done() {
  auto done =
      std::stable_partition(tasks_.begin(), tasks_.end(), [](const auto& task) { return !task->is_done(); });
  std::vector<std::unique_ptr<LazyTask>> extracted(std::make_move_iterator(done),
                                                   std::make_move_iterator(tasks_.end()));
  tasks_.erase(done, tasks_.end());
  return extracted;
}

}  // namespace godwit::lazypages
