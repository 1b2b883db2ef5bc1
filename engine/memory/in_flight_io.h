#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

namespace godwit::memory {

// Why the kernel or a device may be writing into the memory of a frozen process, past its page tables: "an
// AIO ring", "an io_uring", "2048 kB pinned for a device". Empty when nothing of that kind is found. Tracking
// does not see such writes, so all pages of such a process count as changed in every round.
//
// A page that is pinned for direct I/O when it is write-protected again, and filled afterwards, is never
// reported: the device does not go through the page table. A process that is frozen has none of that in
// flight from synchronous calls: a thread inside an O_DIRECT read(2) waits uninterruptibly for its data and
// is stopped only when the call has finished, so it merely delays the freeze. What goes on in a frozen
// process was submitted before: io_submit(2), which needs an AIO ring; io_uring, which needs a descriptor or
// at least a mapping of its rings; buffers registered with io_uring, RDMA or VFIO, which count as pinned
// memory. Not found: an io_uring without mapped rings (IORING_SETUP_NO_MMAP) whose descriptors are all closed
// and which has no registered buffers; and writes of another process into this one (process_vm_writev of a
// process outside the tree goes through the page table and is seen).
std::string in_flight_io(pid_t pid);

// The parts of it that are text: of /proc/PID/maps, and of /proc/PID/status (VmPin).
std::string_view in_flight_io_of_maps(std::string_view maps);
std::string in_flight_io_of_status(std::string_view status);

}  // namespace godwit::memory
