#include <optional>

#include "engine/memory/dirty_tracker.h"

namespace godwit::memory {
namespace {

class Untracked final : public DirtyTracker {
 public:
  bool tracks() const override { return false; }
  void begin_process(pid_t pid, tracee::RemoteCaller&, tracee::Tracee&) override { pages_.emplace(pid); }
  void owned_pages(const pb::vma_entry& vma, std::vector<kernel::PageRegion>& out) override {
    size_t first = out.size();
    pages_->scan(vma.start(), vma.end(), kernel::kOwnedPages, out);
    for (size_t i = first; i < out.size(); ++i) out[i].categories = kernel::kPageWritten;
  }
  void end_process() override { pages_.reset(); }

 private:
  std::optional<kernel::PageMap> pages_;
};

}  // namespace

std::unique_ptr<DirtyTracker> make_untracked() {
  return std::make_unique<Untracked>();
}

}  // namespace godwit::memory
