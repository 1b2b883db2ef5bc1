#pragma once

#include <sys/types.h>

#include <functional>
#include <vector>

#include "engine/files/file_collector.h"
#include "engine/kernel/proc_maps.h"
#include "engine/kernel/proc_task.h"
#include "engine/tracee/batch.h"
#include "proto/images/mm.pb.h"

namespace godwit::memory {

// The mm_entry of a frozen process: its areas, with their files in `files`, and what /proc tells of its
// layout. Must be called before a RemoteCaller maps its scratch. What cannot come back goes to
// files.problems().
pb::mm_entry collect_address_space(pid_t pid, const kernel::TaskStat& stat, files::FileCollector& files);

// The rest of the mm_entry, which only the process itself can tell: the end of the heap, dumpable, THP
// disabled. Adds to its batch; the function that is returned takes the answer.
std::function<void(const tracee::BatchResults&, pb::mm_entry&)> ask_address_space(tracee::Batch& batch);

}  // namespace godwit::memory
