#include "engine/task/credentials.h"

#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

namespace godwit::task {
namespace {

constexpr int kCapabilityBits = 64;

template <class Repeated>
void encode_set(uint64_t set, Repeated& words) {
  words.Clear();
  words.Add(static_cast<uint32_t>(set));
  words.Add(static_cast<uint32_t>(set >> 32));
}

template <class Repeated>
uint64_t decode_set(const Repeated& words) {
  uint64_t set = words.size() > 0 ? words.Get(0) : 0;
  return words.size() > 1 ? set | uint64_t{words.Get(1)} << 32 : set;
}

const pb::creds_entry& creds_of(const ThreadImage& thread) {
  return thread.core.thread_core().creds();
}

void restore_ids(const pb::creds_entry& creds, tracee::Batch& batch) {
  batch.call(
      SYS_setgroups,
      {creds.groups_size(),
       batch.put(std::as_bytes(std::span(creds.groups().data(), static_cast<size_t>(creds.groups_size()))))});
  // Without the fixup, giving up uid 0 keeps the capabilities that the next calls need.
  batch.call(SYS_prctl, {PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0});
  batch.call(SYS_setresgid, {creds.gid(), creds.egid(), creds.sgid()});
  batch.call(SYS_setfsgid, {creds.fsgid()});
  batch.call(SYS_setresuid, {creds.uid(), creds.euid(), creds.suid()});
  batch.call(SYS_setfsuid, {creds.fsuid()});
}

void restore_capabilities(const pb::creds_entry& creds, uint64_t own_bounding, tracee::Batch& batch) {
  uint64_t bounding = decode_set(creds.cap_bnd());
  for (int capability = 0; capability < kCapabilityBits; ++capability) {
    if ((own_bounding & ~bounding) >> capability & 1)
      batch.call(SYS_prctl, {PR_CAPBSET_DROP, capability, 0, 0, 0});
  }
  batch.call(SYS_prctl, {PR_SET_SECUREBITS, creds.secbits(), 0, 0, 0});
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  uint64_t effective = decode_set(creds.cap_eff()), permitted = decode_set(creds.cap_prm()),
           inheritable = decode_set(creds.cap_inh());
  std::array<__user_cap_data_struct, 2> data{};
  for (size_t word = 0; word < data.size(); ++word) {
    data[word].effective = static_cast<uint32_t>(effective >> (32 * word));
    data[word].permitted = static_cast<uint32_t>(permitted >> (32 * word));
    data[word].inheritable = static_cast<uint32_t>(inheritable >> (32 * word));
  }
  batch.call(SYS_capset, {batch.put_object(header), batch.put_object(data)});
  uint64_t ambient = decode_set(creds.cap_amb());
  for (int capability = 0; capability < kCapabilityBits; ++capability) {
    if (ambient >> capability & 1) {
      batch.call(SYS_prctl, {PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0});
    }
  }
}

class CredentialsPart final : public TaskPart {
 public:
  Answer ask(const ThreadFacts& thread, tracee::Batch& batch, pb::core_entry& core,
             kinds::Problems&) override {
    const kernel::TaskStatus& status = thread.status;
    auto& creds = *core.mutable_thread_core()->mutable_creds();
    creds.set_uid(status.uids[0]);
    creds.set_euid(status.uids[1]);
    creds.set_suid(status.uids[2]);
    creds.set_fsuid(status.uids[3]);
    creds.set_gid(status.gids[0]);
    creds.set_egid(status.gids[1]);
    creds.set_sgid(status.gids[2]);
    creds.set_fsgid(status.gids[3]);
    creds.mutable_groups()->Assign(status.groups.begin(), status.groups.end());
    encode_set(status.cap_inheritable, *creds.mutable_cap_inh());
    encode_set(status.cap_permitted, *creds.mutable_cap_prm());
    encode_set(status.cap_effective, *creds.mutable_cap_eff());
    encode_set(status.cap_bounding, *creds.mutable_cap_bnd());
    encode_set(status.cap_ambient, *creds.mutable_cap_amb());
    creds.set_no_new_privs(status.no_new_privs ? 1 : 0);
    auto securebits = batch.call(SYS_prctl, {PR_GET_SECUREBITS, 0, 0, 0, 0});
    return [securebits](const tracee::BatchResults& results, pb::core_entry& answered) {
      answered.mutable_thread_core()->mutable_creds()->set_secbits(
          static_cast<uint32_t>(results.value(securebits)));
    };
  }

  void plan(const ThreadImage& thread, kinds::Problems& problems) override {
    if (!thread.core.thread_core().has_creds()) {
      problems.add("core of tid {}: no credentials", thread.tid);
      return;
    }
    uint64_t wanted = decode_set(creds_of(thread).cap_prm()) | decode_set(creds_of(thread).cap_bnd());
    if (uint64_t missing = decode_set(creds_of(thread).cap_prm()) & ~own().cap_permitted; missing != 0) {
      problems.add("tid {}: it has the capabilities {:#x}, which this criu has not", thread.tid, missing);
    } else if ((wanted & ~own().cap_bounding) != 0) {
      problems.add("tid {}: its capability bounding set has {:#x}, which ours has not", thread.tid,
                   wanted & ~own().cap_bounding);
    }
  }

  void restore(const ThreadImage& thread, tracee::Batch& batch) override {
    const auto& creds = creds_of(thread);
    restore_ids(creds, batch);
    restore_capabilities(creds, own().cap_bounding, batch);
    if (creds.no_new_privs() != 0) batch.call(SYS_prctl, {PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0});
    // A change of ids clears it, so it comes after them.
    if (uint32_t signal = thread.core.thread_core().pdeath_sig(); signal != 0) {
      batch.call(SYS_prctl, {PR_SET_PDEATHSIG, signal, 0, 0, 0});
    }
  }

 private:
  // What the tasks that we create start with.
  const kernel::TaskStatus& own() {
    if (!own_) own_ = kernel::read_task_status(::getpid(), ::getpid());
    return *own_;
  }
  std::optional<kernel::TaskStatus> own_;
};

}  // namespace

std::unique_ptr<TaskPart> make_credentials_part() {
  return std::make_unique<CredentialsPart>();
}

}  // namespace godwit::task
