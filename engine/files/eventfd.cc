#include "engine/files/eventfd.h"

#include <fcntl.h>
#include <sys/eventfd.h>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/files/description_state.h"
#include "engine/kernel/fdinfo.h"

namespace godwit::files {
namespace {

constexpr uint32_t kSemaphoreBit = 1;

class EventfdKind final : public kinds::FileKind {
 public:
  pb::fd_types type() const override { return pb::EVENTFD; }

  bool recognises(const kinds::OpenFile& file) const override {
    return file.target == "anon_inode:[eventfd]";
  }

  void collect(const kinds::OpenFile& file, const kinds::Policy&, pb::file_entry& entry,
               kinds::Problems&) override {
    kernel::EventfdInfo info = kernel::parse_eventfd_info(file.info);
    pb::eventfd_file_entry& eventfd = *entry.mutable_efd();
    eventfd.set_id(entry.id());
    eventfd.set_flags(file.flags | (info.semaphore ? kSemaphoreBit : 0));
    *eventfd.mutable_fown() = collect_owner(file);
    eventfd.set_counter(info.count);
  }

  Fd open(const pb::file_entry& entry, const kinds::Policy&) override {
    const pb::eventfd_file_entry& eventfd = entry.efd();
    int semaphore = eventfd.flags() & kSemaphoreBit ? EFD_SEMAPHORE : 0;
    Fd fd(check(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | semaphore), "eventfd"));
    // The argument of eventfd() has 32 bits, the counter 64.
    if (eventfd.counter() != 0) write_all(fd.get(), bytes_of(uint64_t{eventfd.counter()}), "eventfd");
    set_status_flags(fd.get(), eventfd.flags());
    return fd;
  }
};

}  // namespace

std::unique_ptr<kinds::FileKind> make_eventfd_kind() {
  return std::make_unique<EventfdKind>();
}

}  // namespace godwit::files
