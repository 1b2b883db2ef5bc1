#pragma once

#include <cstdint>
#include <string>

#include "engine/kinds/file_kind.h"
#include "proto/images/common.pb.h"
#include "proto/images/fdinfo.pb.h"

// What every open file description has, whatever its kind: status flags and an owner for SIGIO.
namespace godwit::files {

// "pid 42: fd 5: /srv/x", to begin a problem with.
std::string place_of(const kinds::OpenFile& file);

// Who gets which signal when I/O is possible (F_GETOWN_EX, F_GETSIG, F_GETOWNER_UIDS). Pids are as we see
// them.
pb::fown_entry collect_owner(const kinds::OpenFile& file);
// Of a file that is not held by a descriptor.
pb::fown_entry no_owner();

// Sets those of `flags` that fcntl(F_SETFL) can change: O_APPEND, O_NONBLOCK, O_ASYNC, O_DIRECT, O_NOATIME.
void set_status_flags(int fd, uint32_t flags);
// The signal can be set at once, the owner only when its process exists.
void set_owner_signal(int fd, const pb::fown_entry& owner);
void set_owner(int fd, const pb::fown_entry& owner);
// Null for kinds without.
const pb::fown_entry* owner_of(const pb::file_entry& entry);

}  // namespace godwit::files
