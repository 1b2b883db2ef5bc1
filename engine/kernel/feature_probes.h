#pragma once

#include <functional>
#include <string>

#include "engine/kernel/features.h"

// The probes behind features.cc's table, by subject. Each does what its name says on objects of its own.
namespace godwit::kernel::probes {

inline FeatureResult supported() {
  return {true, {}};
}
inline FeatureResult missing(std::string reason) {
  return {false, std::move(reason)};
}
// For a call that just failed: "name: No such device".
FeatureResult missing_call(const char* call);

// Runs `body` in a forked child, so that what it changes (its memory bits, namespaces, filters) ends with it.
// A child that dies is an answer too: a seccomp filter may kill for what we try.
FeatureResult in_child(const std::function<FeatureResult()>& body);

// features_memory.cc
FeatureResult map_files();
FeatureResult set_mm_map();
FeatureResult remote_read();
FeatureResult soft_dirty();
FeatureResult dirty_tracking();
FeatureResult pagemap_scan();
FeatureResult guard_pages();
FeatureResult userfaultfd_copy();
FeatureResult userfaultfd_events();
FeatureResult write_protect_async();
FeatureResult memory_fd();
FeatureResult memory_fd_hugetlb();

// features_process.cc
FeatureResult set_tid();
FeatureResult same_object();
FeatureResult same_epoll_target();
FeatureResult pidfd_getfd();
FeatureResult peek_signals();
FeatureResult seccomp_suspend();
FeatureResult seccomp_filters();
FeatureResult rseq_configuration();
FeatureResult timer_ids();
FeatureResult cgroup_freezer();
FeatureResult time_namespace();
FeatureResult user_namespace();
FeatureResult cgroup_namespace();
FeatureResult namespace_pids();

// features_files.cc
FeatureResult mount_id();
FeatureResult lock_in_fdinfo();
FeatureResult timer_ticks();
FeatureResult open_in_root();
FeatureResult io_uring();
FeatureResult autofs_device();

// features_sockets.cc
FeatureResult socket_diagnosis();
FeatureResult raw_socket_diagnosis();
FeatureResult peek_offset();
FeatureResult tcp_repair();
FeatureResult socket_namespace();
FeatureResult buffer_lock();
FeatureResult ipv6_freebind();

}  // namespace godwit::kernel::probes
