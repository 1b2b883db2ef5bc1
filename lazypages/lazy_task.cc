#include "lazypages/lazy_task.h"

#include <algorithm>
#include <array>
#include <limits>

#include "engine/base/error.h"
#include "engine/base/log.h"
#include "engine/base/units.h"

namespace godwit::lazypages {

LazyTask::Events LazyTask::read_events(uint32_t& next_id, Statistics& statistics) {
  Events events;
  std::array<uffd_msg, 16> messages;
  for (;;) {
    size_t count = userfaults_.read(messages);
    for (const uffd_msg& message : std::span(messages).first(count)) {
      follow(message, events, next_id, statistics);
    }
    if (count < messages.size()) return events;
  }
}

void LazyTask::follow(const uffd_msg& message, Events& events, uint32_t& next_id, Statistics& statistics) {
  switch (message.event) {
    case UFFD_EVENT_PAGEFAULT:
      events.faults.push_back(page_down(message.arg.pagefault.address));
      break;
    case UFFD_EVENT_FORK:
      log::debug("task {}: forked; {} pages are missing in the child too", id_, missing_.pages());
      events.children.push_back(std::make_unique<LazyTask>(
          next_id++, kernel::Userfaultfd(Fd(static_cast<int>(message.arg.fork.ufd))), missing_));
      break;
    case UFFD_EVENT_REMAP: {
      const auto& remap = message.arg.remap;
      uint64_t pages = remap.len / kPageSize;
      missing_.move({remap.from, pages}, remap.to);
      prediction.forget();
      look_again(remap.from, remap.from + remap.len);
      look_again(remap.to, remap.to + remap.len);
      break;
    }
    case UFFD_EVENT_REMOVE:
    case UFFD_EVENT_UNMAP:
      give_up(message.arg.remove.start, message.arg.remove.end, statistics);
      break;
    default:
      throw Error("userfaultfd event {:#x} was never asked for", message.event);
  }
}

// The contents there are no longer wanted: what is touched there next reads as zeros.
void LazyTask::give_up(uint64_t start, uint64_t end, Statistics& statistics) {
  uint64_t before = missing_.pages();
  missing_.remove({page_down(start), (page_up(end) - page_down(start)) / kPageSize});
  statistics.dropped_pages += before - missing_.pages();
  look_again(page_down(start), page_up(end));
}

// Whoever waits there may wait for something else now, or for nothing.
void LazyTask::look_again(uint64_t start, uint64_t end) {
  auto first = waits_.lower_bound(start);
  auto last = waits_.lower_bound(end);
  if (first == last) return;
  waits_.erase(first, last);
  userfaults_.wake(start, end - start);
}

std::optional<uint64_t> LazyTask::wait_for(uint64_t address, Clock::time_point now) {
  auto image = missing_.image_of(address);
  if (image) waits_.emplace(address, now);
  return image;
}

bool LazyTask::settle_empty(uint64_t address) {
  auto progress = userfaults_.zero(address, kPageSize);
  if (progress.error == EAGAIN) return false;
  if (progress.error == ESRCH) gone_ = true;
  // There already (another thread's fault), or no longer mapped: the fault looks again.
  if (progress.error != 0) userfaults_.wake(address, kPageSize);
  return true;
}

bool LazyTask::place(kinds::PageRange image, std::span<const std::byte> bytes, Statistics& statistics) {
  for (const MissingRun& run : missing_.of_image(image)) {
    bool complete = place_run(run, bytes.subspan(run.image - image.address, run.pages * kPageSize));
    end_waits(run, statistics);
    if (gone_) return true;
    if (!complete) return false;
  }
  return true;
}

bool LazyTask::place_run(const MissingRun& run, std::span<const std::byte> bytes) {
  uint64_t address = run.address;
  size_t step = bytes.size();
  while (!bytes.empty()) {
    step = std::min(step, bytes.size());
    auto progress = userfaults_.copy(address, bytes.first(step));
    uint64_t done = progress.bytes;
    switch (done > 0 ? 0 : progress.error) {
      case 0:  // all, or as far as it came: the next call says what is in the way
        break;
      case EAGAIN:
      case ENOMEM:  // the task is at its limit; it may free memory or be killed
        return false;
      case EEXIST:
        done = kPageSize;
        userfaults_.wake(address, done);
        break;
      case ENOENT:
      case EINVAL:
        // The task has cut the area (mprotect): a copy stays within one. Or this page is not there any more.
        if (step > kPageSize) {
          step = std::max<size_t>(page_down(step / 2), kPageSize);
          continue;
        }
        done = kPageSize;
        userfaults_.wake(address, done);
        break;
      case ESRCH:
      case ENOSPC:  // how Linux before 4.13 says it
        gone_ = true;
        return true;
      default:
        throw SystemError(progress.error, "UFFDIO_COPY({:#x})", address);
    }
    missing_.remove({address, done / kPageSize});
    address += done;
    bytes = bytes.subspan(done);
  }
  return true;
}

// Of the waits in this run, those whose pages are there now.
void LazyTask::end_waits(const MissingRun& run, Statistics& statistics) {
  if (waits_.empty()) return;
  auto now = Clock::now();
  auto at = waits_.lower_bound(run.address);
  while (at != waits_.end() && at->first < run.end()) {
    if (missing_.image_of(at->first)) {
      ++at;
      continue;
    }
    statistics.waits.record(now - at->second);
    at = waits_.erase(at);
  }
}

std::vector<uint64_t> LazyTask::waits_in(kinds::PageRange image) const {
  std::vector<uint64_t> found;
  for (const MissingRun& run : missing_.of_image(image)) {
    for (auto at = waits_.lower_bound(run.address); at != waits_.end() && at->first < run.end(); ++at) {
      found.push_back(run.image + (at->first - run.address));
    }
  }
  return found;
}

bool LazyTask::poison_missing() {
  uint64_t step = std::numeric_limits<uint64_t>::max();
  while (auto run = missing_.next(0)) {
    uint64_t bytes = std::min(run->pages * kPageSize, step);
    auto progress = userfaults_.poison(run->address, bytes);
    if (progress.error == ESRCH) gone_ = true;
    if (gone_) return true;
    bool settled = progress.error == ENOENT || progress.error == EEXIST;
    if (progress.bytes == 0 && progress.error != 0) {
      if (!settled) return false;
      if (bytes > kPageSize) {  // perhaps only a part of it
        step = kPageSize;
        continue;
      }
      progress.bytes = kPageSize;
    }
    missing_.remove({run->address, progress.bytes / kPageSize});
  }
  return true;
}

}  // namespace godwit::lazypages
