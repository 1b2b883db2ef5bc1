#include "engine/kernel/features.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/kernel/feature_probes.h"

namespace godwit::kernel {
namespace {

using enum FeatureCategory;

constexpr Feature kFeatures[] = {
    {"map_files", kRequired, "files behind mappings", probes::map_files},
    {"sock_diag", kRequired, "what sockets are connected to", probes::socket_diagnosis},
    {"kcmp", kRequired, "descriptors that several tasks share", probes::same_object},
    {"pidfd_getfd", kRequired, "a look at another task's open files", probes::pidfd_getfd},
    {"process_vm_readv", kRequired, "reading another task's memory", probes::remote_read},
    {"set_mm_map", kRequired, "restoring heap, stack and command line addresses", probes::set_mm_map},
    {"clone3_set_tid", kRequired, "restoring tasks under their old pids", probes::set_tid},
    {"peeksiginfo", kRequired, "signals that wait for delivery", probes::peek_signals},
    {"sock_peek_off", kRequired, "data that waits in unix sockets", probes::peek_offset},
    {"tcp_repair", kRequired, "state of TCP connections", probes::tcp_repair},
    {"mnt_id", kRequired, "the mount that an open file belongs to", probes::mount_id},

    {"mem_dirty_track", kSometimes, "iterative pre-dumps, by soft-dirty bits or write protection",
     probes::dirty_tracking},
    {"pagemap_scan", kSometimes, "fast search of page tables", probes::pagemap_scan},
    {"pagemap_scan_guard_pages", kSometimes, "guard pages inside mappings", probes::guard_pages},
    {"uffd", kSometimes, "memory on demand (--lazy-pages)", probes::userfaultfd_copy},
    {"uffd-noncoop", kSometimes, "memory on demand for tasks that fork or unmap", probes::userfaultfd_events},
    {"uffd-wp-async", kSometimes, "memory tracking by write protection", probes::write_protect_async},
    {"memfd", kSometimes, "files that live in memory only", probes::memory_fd},
    {"memfd_hugetlb", kSometimes, "such files of huge pages", probes::memory_fd_hugetlb},
    {"kcmp_epoll", kSometimes, "targets of epoll whose descriptors are closed", probes::same_epoll_target},
    {"seccomp_suspend", kSometimes, "tasks under a seccomp filter", probes::seccomp_suspend},
    {"seccomp_filters", kSometimes, "the seccomp filters themselves", probes::seccomp_filters},
    {"get_rseq_conf", kSometimes, "restartable sequences", probes::rseq_configuration},
    {"timer_cr_ids", kSometimes, "POSIX timers with large ids", probes::timer_ids},
    {"timerfd", kSometimes, "expirations that a timerfd has not reported", probes::timer_ticks},
    {"fdinfo_lock", kSometimes, "file locks (--file-locks)", probes::lock_in_fdinfo},
    {"openat2", kSometimes, "files of tasks with a root of their own", probes::open_in_root},
    {"io_uring", kSometimes, "fast reading and writing of page images", probes::io_uring},
    {"cgroup_freezer", kSometimes, "resuming a tree all at once", probes::cgroup_freezer},
    {"timens", kSometimes, "time namespaces", probes::time_namespace},
    {"userns", kSometimes, "user namespaces", probes::user_namespace},
    {"cgroupns", kSometimes, "cgroup namespaces", probes::cgroup_namespace},
    {"ns_pid", kSometimes, "pids inside pid namespaces", probes::namespace_pids},
    {"sk_ns", kSometimes, "the network namespace of a socket", probes::socket_namespace},
    {"sockopt_buf_lock", kSometimes, "sockets with buffers of a fixed size", probes::buffer_lock},
    {"ipv6_freebind", kSometimes, "IPv6 sockets bound to absent addresses", probes::ipv6_freebind},
    {"net_diag_raw", kSometimes, "raw sockets", probes::raw_socket_diagnosis},

    {"soft_dirty", kExperimental, "soft-dirty bits of memory pages", probes::soft_dirty},
    {"autofs", kExperimental, "automounts", probes::autofs_device},
};

}  // namespace

namespace probes {

FeatureResult missing_call(const char* call) {
  return missing(fmt::format("{}: {}", call, SystemError::errno_text(errno)));
}

FeatureResult in_child(const std::function<FeatureResult()>& body) {
  Pipe answer = Pipe::create();
  pid_t pid = check(::fork(), "fork");
  if (pid == 0) {
    std::string text;
    try {
      FeatureResult result = body();
      text = (result.supported ? "+" : "-") + result.reason;
    } catch (const std::exception& error) {
      text = std::string("-") + error.what();
    }
    ssize_t written = ::write(answer.write_end.get(), text.data(), std::min<size_t>(text.size(), 4096));
    ::_exit(written > 0 ? 0 : 1);
  }
  answer.write_end.reset();
  std::string text(4096, '\0');
  text.resize(read_up_to(answer.read_end.get(), std::as_writable_bytes(std::span(text)), "probe"));
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (text.empty()) {
    if (WIFSIGNALED(status)) {
      return missing(
          fmt::format("trying it ends with signal {} ({})", WTERMSIG(status), ::strsignal(WTERMSIG(status))));
    }
    return missing("the probing process ended without an answer");
  }
  return {text[0] == '+', text.substr(1)};
}

}  // namespace probes

std::span<const Feature> features() {
  return kFeatures;
}

const Feature* find_feature(std::string_view name) {
  auto found = std::ranges::find(kFeatures, name, &Feature::name);
  return found == std::end(kFeatures) ? nullptr : found;
}

FeatureResult probe(const Feature& feature) {
  try {
    return feature.probe();
  } catch (const Error& error) {
    return {false, error.what()};
  }
}

FeatureResult probe(std::string_view name) {
  const Feature* feature = find_feature(name);
  if (feature == nullptr) throw Error("no kernel feature is called {}", name);
  return probe(*feature);
}

DirtyTracking available_dirty_tracking() {
  if (probe("soft_dirty").supported) return DirtyTracking::kSoftDirty;
  if (probe("uffd-wp-async").supported) return DirtyTracking::kWriteProtect;
  return DirtyTracking::kNone;
}

std::string_view dirty_tracking_name(DirtyTracking tracking) {
  switch (tracking) {
    case DirtyTracking::kSoftDirty:
      return "soft-dirty bits";
    case DirtyTracking::kWriteProtect:
      return "write protection (userfaultfd and PAGEMAP_SCAN)";
    case DirtyTracking::kNone:
      break;
  }
  return "nothing: pre-dumps are not possible";
}

}  // namespace godwit::kernel
