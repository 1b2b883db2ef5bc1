#include "engine/task/thread_pointers.h"

#include <linux/futex.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/base/error.h"

namespace godwit::task {
namespace {

class ThreadPointersPart final : public TaskPart {
 public:
  Answer ask(const ThreadFacts& thread, tracee::Batch& batch, pb::core_entry& core,
             kinds::Problems&) override {
    auto& entry = *core.mutable_thread_core();
    uint64_t head = 0;
    size_t length = 0;
    check(::syscall(SYS_get_robust_list, thread.tracee.tid(), &head, &length), "get_robust_list");
    entry.set_futex_rla(head);
    entry.set_futex_rla_len(static_cast<uint32_t>(length));
    if (auto rseq = thread.tracee.rseq_configuration(); rseq && rseq->pointer != 0) {
      auto& rseq_entry = *entry.mutable_rseq_entry();
      rseq_entry.set_rseq_abi_pointer(rseq->pointer);
      rseq_entry.set_rseq_abi_size(rseq->size);
      rseq_entry.set_signature(rseq->signature);
    }
    auto address = batch.reserve(sizeof(uint64_t), alignof(uint64_t));
    batch.call(SYS_prctl, {PR_GET_TID_ADDRESS, address, 0, 0, 0});
    return [address](const tracee::BatchResults& results, pb::core_entry& answered) {
      answered.mutable_thread_info()->set_clear_tid_addr(results.get<uint64_t>(address));
    };
  }

  void restore(const ThreadImage& thread, tracee::Batch& batch) override {
    const auto& entry = thread.core.thread_core();
    batch.call(SYS_set_tid_address, {thread.core.thread_info().clear_tid_addr()});
    if (entry.futex_rla() != 0) batch.call(SYS_set_robust_list, {entry.futex_rla(), entry.futex_rla_len()});
    if (entry.has_rseq_entry() && entry.rseq_entry().rseq_abi_pointer() != 0) {
      const auto& rseq = entry.rseq_entry();
      batch.call(SYS_rseq, {rseq.rseq_abi_pointer(), rseq.rseq_abi_size(), 0, rseq.signature()});
    }
  }
};

}  // namespace

std::unique_ptr<TaskPart> make_thread_pointers_part() {
  return std::make_unique<ThreadPointersPart>();
}

}  // namespace godwit::task
