#include "engine/task/seccomp.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include <map>
#include <string>
#include <vector>

#include "engine/base/error.h"
#include "proto/images/security.pb.h"

namespace godwit::task {
namespace {

constexpr size_t kMaxFilterBytes = 4096 * sizeof(sock_filter);  // BPF_MAXINSNS

// struct sock_fprog, whose pointer is patched to an address in the task.
struct KernelProgram {
  uint16_t length = 0;
  std::array<uint16_t, 3> padding{};
  uint64_t instructions = 0;
};

// The filters of a thread, the one installed first at the front.
struct Chain {
  std::vector<pb::seccomp_filter> filters;
  bool operator==(const Chain& other) const {
    return std::equal(
        filters.begin(), filters.end(), other.filters.begin(), other.filters.end(),
        [](const auto& a, const auto& b) { return a.filter() == b.filter() && a.flags() == b.flags(); });
  }
};

Chain read_chain(pid_t tid) {
  Chain chain;
  constexpr auto kGetFilter = static_cast<__ptrace_request>(0x420c);    // PTRACE_SECCOMP_GET_FILTER
  constexpr auto kGetMetadata = static_cast<__ptrace_request>(0x420d);  // PTRACE_SECCOMP_GET_METADATA
  std::vector<sock_filter> code(BPF_MAXINSNS);
  for (uint64_t index = 0;; ++index) {
    // Counted from the filter installed last.
    long length = ::ptrace(kGetFilter, tid, index, code.data());
    if (length < 0 && errno == ENOENT) break;
    check(length, "PTRACE_SECCOMP_GET_FILTER({}, {})", tid, index);
    pb::seccomp_filter filter;
    filter.set_filter(code.data(), static_cast<size_t>(length) * sizeof(sock_filter));
    struct {
      uint64_t filter_offset, flags;
    } metadata{index, 0};  // struct seccomp_metadata
    if (::ptrace(kGetMetadata, tid, sizeof metadata, &metadata) >= 0) {
      filter.set_flags(static_cast<uint32_t>(metadata.flags));
    }
    chain.filters.insert(chain.filters.begin(), std::move(filter));
  }
  return chain;
}

class SeccompPart final : public TaskPart {
 public:
  Answer ask(const ThreadFacts& thread, tracee::Batch&, pb::core_entry& core, kinds::Problems&) override {
    if (thread.status.seccomp == SECCOMP_MODE_STRICT) {
      core.mutable_thread_core()->set_seccomp_mode(pb::seccomp_mode::strict);
      return {};
    }
    pid_t pid = thread.tracee.pid();
    Chain chain;
    if (thread.status.seccomp == SECCOMP_MODE_FILTER) chain = read_chain(thread.tracee.tid());
    Process& process = processes_[pid];
    if (thread.leader) {
      process.leader = chain;
    } else if (!(chain == process.leader)) {
      process.all_equal = false;
    }
    if (chain.filters.empty()) return {};
    // Whether all threads have the same filters is known only when all were asked: decide with the answers.
    return [this, pid, chain, leader = thread.leader](const tracee::BatchResults&, pb::core_entry& answered) {
      record(processes_[pid], chain, leader, answered);
    };
  }

  void write_images(images::ImageDirectory& images) override {
    if (image_.seccomp_filters_size() > 0) images.write_one(images::Kind::kSeccomp, 0, image_);
  }

  void read_images(const images::ImageDirectory& images) override {
    if (auto reader = images.open_if_exists(images::Kind::kSeccomp))
      image_ = reader->read_one<pb::seccomp_entry>();
    for (int i = 0; i < image_.seccomp_filters_size(); ++i) {
      const auto& filter = image_.seccomp_filters(i);
      size_t size = filter.filter().size();
      if (size == 0 || size % sizeof(sock_filter) != 0 || size > kMaxFilterBytes) {
        throw FormatError("seccomp.img: filter {} of {} bytes", i, size);
      }
      if (filter.has_prev() && filter.prev() >= static_cast<uint32_t>(i)) {
        throw FormatError("seccomp.img: filter {} follows filter {}", i, filter.prev());
      }
    }
  }

  void plan(const ThreadImage& thread, kinds::Problems& problems) override {
    const auto& core = thread.core.thread_core();
    if (core.seccomp_mode() == pb::filter &&
        core.seccomp_filter() >= static_cast<uint32_t>(image_.seccomp_filters_size())) {
      problems.add("core of tid {}: there is no seccomp filter {}", thread.tid, core.seccomp_filter());
    }
  }

  // The tracer suspends seccomp for the task (PTRACE_O_SUSPEND_SECCOMP), so the batch goes on under the
  // filters.
  void restore(const ThreadImage& thread, tracee::Batch& batch) override {
    const auto& core = thread.core.thread_core();
    if (core.seccomp_mode() == pb::seccomp_mode::strict)
      batch.call(SYS_seccomp, {SECCOMP_SET_MODE_STRICT, 0, 0});
    if (core.seccomp_mode() != pb::seccomp_mode::filter) return;
    std::vector<const pb::seccomp_filter*> chain;
    for (uint32_t index = core.seccomp_filter();;) {
      const auto& filter = image_.seccomp_filters(static_cast<int>(index));
      chain.insert(chain.begin(), &filter);
      if (!filter.has_prev()) break;
      index = filter.prev();
    }
    for (const auto* filter : chain) {
      auto code = batch.put(std::as_bytes(std::span(filter->filter())));
      KernelProgram program{.length = static_cast<uint16_t>(filter->filter().size() / sizeof(sock_filter))};
      auto data = batch.put_object(program);
      batch.patch(data, offsetof(KernelProgram, instructions), code);
      batch.call(SYS_seccomp, {SECCOMP_SET_MODE_FILTER, filter->flags(), data});
    }
  }

 private:
  struct Process {
    Chain leader;
    bool all_equal = true;
  };

  // Threads with equal filters get them from the leader by SECCOMP_FILTER_FLAG_TSYNC: so they share them, and
  // a later TSYNC of the program still works.
  void record(const Process& process, const Chain& chain, bool leader, pb::core_entry& core) {
    if (process.all_equal && !leader) return;
    core.mutable_thread_core()->set_seccomp_mode(pb::seccomp_mode::filter);
    for (size_t i = 0; i < chain.filters.size(); ++i) {
      auto& filter = *image_.add_seccomp_filters();
      filter = chain.filters[i];
      if (i > 0) filter.set_prev(static_cast<uint32_t>(image_.seccomp_filters_size()) - 2);
      if (process.all_equal) filter.set_flags(filter.flags() | SECCOMP_FILTER_FLAG_TSYNC);
    }
    core.mutable_thread_core()->set_seccomp_filter(static_cast<uint32_t>(image_.seccomp_filters_size()) - 1);
  }

  std::map<pid_t, Process> processes_;
  pb::seccomp_entry image_;
};

}  // namespace

std::unique_ptr<TaskPart> make_seccomp_part() {
  return std::make_unique<SeccompPart>();
}

}  // namespace godwit::task
