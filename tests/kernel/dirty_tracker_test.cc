#include "engine/memory/dirty_tracker.h"

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <random>

#include "engine/base/mapping.h"
#include "engine/kernel/features.h"
#include "engine/memory/soft_dirty_tracker.h"
#include "engine/memory/write_protect_tracker.h"
#include "tests/kernel/dirty_tracker_guest.h"
#include "tests/support/skip.h"
#include "tests/support/temporary_directory.h"

namespace godwit::memory {
namespace {

using namespace test;
using ::godwit::test::TemporaryDirectory;

#define NEEDS_WRITE_PROTECTION() \
  if (auto able = kernel::probe("uffd-wp-async"); !able.supported) GODWIT_SKIP(able.reason)

std::unique_ptr<DirtyTracker> new_tracker() {
  return make_write_protect_tracker({});
}

// A guest with eight pages in the arena, all owned, and a tracker that has seen them once.
struct Armed {
  Guest guest;
  std::unique_ptr<DirtyTracker> tracker = new_tracker();
  Armed() {
    guest.map(page(0), 8);
    guest.fill(page(0), 8, 1);
    Found first = track(*tracker, guest);
    CHECK(first.owned.size() == 8);
    CHECK(first.changed == first.owned);
  }
};

uint64_t page_table_kib(pid_t pid) {
  std::string status = read_file(AT_FDCWD, fmt::format("/proc/{}/status", pid));
  return std::stoull(status.substr(status.find("VmPTE:") + 6));
}

size_t descriptors_of(pid_t pid) {
  auto fds = std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", pid));
  return static_cast<size_t>(std::distance(fds, {}));
}

Fd file_of_pages(const std::string& path, uint64_t pages, char byte) {
  Fd file = open_at(AT_FDCWD, path, O_RDWR | O_CREAT | O_TRUNC, 0600);
  std::string text(pages * kPageSize, byte);
  write_all(file.get(), std::as_bytes(std::span(text)), "file");
  return file;
}

TEST_CASE("clean pages stay clean and written ones are found, round after round") {
  NEEDS_WRITE_PROTECTION();
  Armed armed;
  size_t descriptors = descriptors_of(armed.guest.pid());
  for (uint64_t round = 0; round < 20; ++round) {
    armed.guest.write(page(round % 8), static_cast<uint8_t>(round));
    Found found = track(*armed.tracker, armed.guest);
    CHECK(found.owned.size() == 8);
    CHECK(found.changed == Pages{page(round % 8)});
    CHECK(track(*armed.tracker, armed.guest).changed.empty());
  }
  CHECK(descriptors_of(armed.guest.pid()) == descriptors);
}

TEST_CASE("tracking leaves no descriptor in the process and its work is the same") {
  NEEDS_WRITE_PROTECTION();
  Guest guest;
  guest.map(page(0), 2);
  size_t descriptors = descriptors_of(guest.pid());
  auto tracker = new_tracker();
  track(*tracker, guest);
  CHECK(descriptors_of(guest.pid()) == descriptors);
  guest.write(page(1), 7);
  CHECK(guest.read(page(1)) == 7);
}

TEST_CASE("what the kernel writes into a buffer is found") {
  NEEDS_WRITE_PROTECTION();
  Armed armed;
  TemporaryDirectory dir;
  Fd file = file_of_pages(dir / "source", 2, 'x');
  // The guest reads it through our descriptor table, which it can reach by name.
  std::string path = fmt::format("/proc/{}/fd/{}", ::getpid(), file.get());
  for (size_t i = 0; i <= path.size(); ++i)
    armed.guest.write(page(0) + i, static_cast<uint8_t>(path.c_str()[i]));
  int64_t fd = armed.guest.call(SYS_openat, AT_FDCWD, static_cast<int64_t>(page(0)), O_RDONLY);
  REQUIRE(fd >= 0);
  track(*armed.tracker, armed.guest);
  REQUIRE(armed.guest.call(SYS_read, fd, static_cast<int64_t>(page(3)), 2 * kPageSize) == 2 * kPageSize);
  CHECK(track(*armed.tracker, armed.guest).changed == Pages{page(3), page(4)});
}

TEST_CASE("a mapping that replaces another is new") {
  NEEDS_WRITE_PROTECTION();
  Armed armed;
  armed.guest.call(SYS_munmap, static_cast<int64_t>(page(2)), 2 * kPageSize);
  armed.guest.map(page(2), 2);
  armed.guest.write(page(2), 9);
  Found found = track(*armed.tracker, armed.guest);
  CHECK(found.changed == Pages{page(2)});
  CHECK(found.owned.count(page(3)) == 0);
  armed.guest.write(page(3), 9);
  CHECK(track(*armed.tracker, armed.guest).changed == Pages{page(3)});
}

TEST_CASE("pages that mremap has moved are changed, and tracked where they are now") {
  NEEDS_WRITE_PROTECTION();
  Armed armed;
  REQUIRE(armed.guest.call(SYS_mremap, static_cast<int64_t>(page(0)), 8 * kPageSize, 8 * kPageSize,
                           MREMAP_MAYMOVE | MREMAP_FIXED,
                           static_cast<int64_t>(page(100))) == static_cast<int64_t>(page(100)));
  armed.guest.write(page(100), 77);  // not tracked at this moment
  Found found = track(*armed.tracker, armed.guest);
  CHECK(found.changed.size() == 8);
  CHECK(*found.owned.begin() == page(100));
  armed.guest.write(page(101), 3);
  CHECK(track(*armed.tracker, armed.guest).changed == Pages{page(101)});
}

TEST_CASE("discarded pages are owned no longer, and changed when they come back") {
  NEEDS_WRITE_PROTECTION();
  Armed armed;
  armed.guest.call(SYS_madvise, static_cast<int64_t>(page(1)), 3 * kPageSize, MADV_DONTNEED);
  CHECK(armed.guest.read(page(2)) == 0);  // the page of zeros now
  armed.guest.write(page(3), 5);
  Found found = track(*armed.tracker, armed.guest);
  CHECK(found.owned == Pages{page(0), page(3), page(4), page(5), page(6), page(7)});
  CHECK(found.changed == Pages{page(3)});
  armed.guest.write(page(2), 6);
  CHECK(track(*armed.tracker, armed.guest).changed == Pages{page(2)});
}

TEST_CASE("a new mapping is found, and a grown one") {
  NEEDS_WRITE_PROTECTION();
  Armed armed;
  armed.guest.map(page(1000), 2);
  armed.guest.write(page(1001), 1);
  armed.guest.map(page(8), 2);  // beside the tracked one
  armed.guest.write(page(8), 1);
  CHECK(track(*armed.tracker, armed.guest).changed == Pages{page(8), page(1001)});
  CHECK(track(*armed.tracker, armed.guest).changed.empty());
}

TEST_CASE("protection by mprotect changes nothing") {
  NEEDS_WRITE_PROTECTION();
  Armed armed;
  armed.guest.call(SYS_mprotect, static_cast<int64_t>(page(0)), 4 * kPageSize, PROT_NONE);
  CHECK(track(*armed.tracker, armed.guest).changed.empty());
  armed.guest.call(SYS_mprotect, static_cast<int64_t>(page(0)), 4 * kPageSize, PROT_READ | PROT_WRITE);
  armed.guest.write(page(0), 2);
  CHECK(track(*armed.tracker, armed.guest).changed == Pages{page(0)});
}

TEST_CASE("a forked child starts with everything changed, and both are tracked on") {
  NEEDS_WRITE_PROTECTION();
  Armed armed;
  auto child = static_cast<pid_t>(armed.guest.call(SYS_clone, SIGCHLD));
  REQUIRE(child > 0);
  armed.guest.write(page(5), 50);
  auto found = track_tree(*armed.tracker, armed.guest.pid());
  CHECK(found.at(armed.guest.pid()).changed == Pages{page(5)});
  CHECK(found.at(child).changed.size() == 8);
  found = track_tree(*armed.tracker, armed.guest.pid());
  CHECK(found.at(armed.guest.pid()).changed.empty());
  CHECK(found.at(child).changed.empty());
  ::kill(child, SIGKILL);
  armed.guest.call(SYS_wait4, child);
  CHECK(track_tree(*armed.tracker, armed.guest.pid()).size() == 1);
}

TEST_CASE("after an exec everything is changed, and tracked again from then on") {
  NEEDS_WRITE_PROTECTION();
  Armed armed;
  const std::string words[] = {"/bin/sleep", "1000"};
  uint64_t at = page(0);
  uint64_t addresses[3] = {};
  for (size_t i = 0; i < 2; ++i) {
    addresses[i] = at;
    for (size_t k = 0; k <= words[i].size(); ++k)
      armed.guest.write(at++, static_cast<uint8_t>(words[i].c_str()[k]));
  }
  for (size_t i = 0; i < sizeof addresses; ++i)
    armed.guest.write(page(1) + i, reinterpret_cast<uint8_t*>(addresses)[i]);
  armed.guest.send_call(SYS_execve, static_cast<int64_t>(page(0)), static_cast<int64_t>(page(1)), 0);
  std::string wait_channel;
  for (int i = 0; i < 1000 && wait_channel.find("sleep") == std::string::npos; ++i) {
    wait_channel = read_file(AT_FDCWD, fmt::format("/proc/{}/wchan", armed.guest.pid()));
    if (read_file(AT_FDCWD, fmt::format("/proc/{}/comm", armed.guest.pid())) != "sleep\n") wait_channel = "";
    ::usleep(5000);
  }
  auto stack = [](const kernel::MapsEntry& map) { return map.name == "[stack]"; };
  auto first = track_tree(*armed.tracker, armed.guest.pid(), stack).at(armed.guest.pid());
  CHECK_FALSE(first.owned.empty());
  CHECK(first.changed == first.owned);
  auto second = track_tree(*armed.tracker, armed.guest.pid(), stack).at(armed.guest.pid());
  CHECK(second.owned == first.owned);
  CHECK(second.changed.size() < first.changed.size());
}

TEST_CASE("private pages of a file: changed ones are owned, and discarding one brings the file's back") {
  NEEDS_WRITE_PROTECTION();
  TemporaryDirectory dir;
  Fd file = file_of_pages(dir / "mapped", 4, 'f');
  Guest guest;  // has our descriptor by inheritance
  guest.map(page(0), 4, file.get());
  auto tracker = new_tracker();
  CHECK(guest.read(page(0)) == 'f');
  guest.write(page(1), 'g');
  guest.write(page(2), 'g');
  CHECK(track(*tracker, guest).changed == Pages{page(1), page(2)});
  guest.write(page(3), 'h');
  Found found = track(*tracker, guest);
  CHECK(found.owned == Pages{page(1), page(2), page(3)});
  CHECK(found.changed == Pages{page(3)});
  guest.call(SYS_madvise, static_cast<int64_t>(page(1)), kPageSize, MADV_DONTNEED);
  found = track(*tracker, guest);
  // Whether it is reported does not matter, as long as the old private page is not called unchanged.
  CHECK((found.owned.count(page(1)) == 0 || found.changed.count(page(1)) == 1));
  if (found.changed.count(page(1)) != 0) CHECK(found.first_bytes.at(page(1)) == 'f');
  guest.write(page(1), 'i');
  found = track(*tracker, guest);
  CHECK(found.changed == Pages{page(1)});
  CHECK(found.first_bytes.at(page(1)) == 'i');
}

TEST_CASE("a sparse mapping costs no page tables") {
  NEEDS_WRITE_PROTECTION();
  Guest guest;
  constexpr uint64_t kPages = 16 * kGiB / kPageSize;
  guest.map(page(0), kPages);
  guest.write(page(kPages / 2), 1);
  uint64_t before = page_table_kib(guest.pid());
  auto tracker = new_tracker();
  CHECK(track(*tracker, guest).changed == Pages{page(kPages / 2)});
  guest.write(page(7), 1);
  CHECK(track(*tracker, guest).changed == Pages{page(7)});
  CHECK(page_table_kib(guest.pid()) < before + 1024);
}

TEST_CASE("memory that is protected by another userfaultfd is always changed, and left to the other") {
  NEEDS_WRITE_PROTECTION();
  Armed armed;
  {
    auto second = new_tracker();
    armed.guest.write(page(4), 4);
    CHECK(track(*second, armed.guest).changed.size() == 8);
    CHECK(track(*second, armed.guest).changed.size() == 8);
    CHECK(track(*armed.tracker, armed.guest).changed == Pages{page(4)});
  }
  CHECK(track(*armed.tracker, armed.guest).changed.empty());
}

TEST_CASE("after a round that failed everything is changed") {
  NEEDS_WRITE_PROTECTION();
  Armed armed;
  armed.guest.write(page(1), 4);
  track(*armed.tracker, armed.guest);
  armed.tracker->forget_all();
  CHECK(track(*armed.tracker, armed.guest).changed.size() == 8);
  CHECK(track(*armed.tracker, armed.guest).changed.empty());
}

TEST_CASE("a process that cannot open another descriptor is not tracked, and not harmed") {
  NEEDS_WRITE_PROTECTION();
  Guest guest;
  guest.map(page(0), 2);
  guest.fill(page(0), 2, 1);
  rlimit none{0, 4096};
  REQUIRE(::prlimit(guest.pid(), RLIMIT_NOFILE, &none, nullptr) == 0);
  auto tracker = new_tracker();
  CHECK(track(*tracker, guest).changed.size() == 2);
  CHECK(track(*tracker, guest).changed.size() == 2);
  rlimit some{1024, 4096};
  REQUIRE(::prlimit(guest.pid(), RLIMIT_NOFILE, &some, nullptr) == 0);
  CHECK(track(*tracker, guest).changed.size() == 2);
  CHECK(track(*tracker, guest).changed.empty());
}

TEST_CASE("a process with an AIO ring is changed in every round") {
  NEEDS_WRITE_PROTECTION();
  Armed armed;
  // The ring's handle goes where the memory is still zero, as the call wants it.
  if (armed.guest.call(SYS_io_setup, 8, static_cast<int64_t>(page(0) + 64)) != 0) GODWIT_SKIP("no io_setup");
  CHECK(track(*armed.tracker, armed.guest).changed.size() == 8);
  CHECK(track(*armed.tracker, armed.guest).changed.size() == 8);
}

TEST_CASE("a process with an io_uring is changed in every round") {
  NEEDS_WRITE_PROTECTION();
  Armed armed;
  armed.guest.map(page(50), 1);  // zero: the parameters
  if (armed.guest.call(SYS_io_uring_setup, 4, static_cast<int64_t>(page(50))) < 0) GODWIT_SKIP("no io_uring");
  for (int round = 0; round < 2; ++round) {
    Found found = track(*armed.tracker, armed.guest);
    CHECK(found.changed == found.owned);
  }
}

// Rounds of random changes; after each, the images that the rounds make up must be the memory. `exact`:
// nothing but what was written is reported.
void follow_random_changes(DirtyTracker& tracker, bool exact) {
  constexpr uint64_t kPages = 64;
  std::mt19937 random(20261121);
  auto below = [&](uint64_t limit) { return random() % limit; };
  Guest guest;
  guest.map(page(0), kPages);
  std::map<uint64_t, uint8_t> truth, copy;  // the first bytes of the pages
  for (int round = 0; round < 40; ++round) {
    Pages written;
    for (uint64_t i = below(20); i > 0; --i) {
      uint64_t at = page(below(kPages));
      switch (below(8)) {
        case 0:  // discarded
          guest.call(SYS_madvise, static_cast<int64_t>(at), kPageSize, MADV_DONTNEED);
          truth.erase(at);
          written.erase(at);
          break;
        case 1:  // mapped anew
          guest.map(at, 1);
          truth.erase(at);
          written.erase(at);
          break;
        case 2:  // read only
          CHECK(guest.read(at) == (truth.count(at) != 0 ? truth[at] : 0));
          break;
        default:
          truth[at] = static_cast<uint8_t>(1 + below(255));
          guest.write(at, truth[at]);
          written.insert(at);
      }
    }
    Found found = track(tracker, guest);
    CHECK(std::includes(found.changed.begin(), found.changed.end(), written.begin(), written.end()));
    if (exact) CHECK(found.changed == written);
    // What the images hold after this round: the changed pages, and of the older ones those that are owned.
    std::erase_if(copy, [&](const auto& entry) { return found.owned.count(entry.first) == 0; });
    for (auto [at, byte] : found.first_bytes) copy[at] = byte;
    REQUIRE(copy == truth);
  }
}

TEST_CASE("the images that rounds make up are the memory, whatever the process does") {
  NEEDS_WRITE_PROTECTION();
  follow_random_changes(*new_tracker(), true);
}

// The bits themselves need a kernel with CONFIG_MEM_SOFT_DIRTY; whom they are believed for does not. Where
// the kernel has no such bits, every page of a process that is believed looks clean.
struct SoftDirty {
  TemporaryDirectory dir;
  std::unique_ptr<DirtyTracker> tracker(std::optional<ArmingRecord> earlier = std::nullopt) const {
    return make_soft_dirty_tracker(std::move(earlier), ArmingRegistry::open(dir / "registry"));
  }
};

TEST_CASE("soft-dirty: the first round finds everything changed, later ones what was written") {
  SoftDirty soft;
  Guest guest;
  guest.map(page(0), 4);
  guest.fill(page(0), 4, 1);
  auto tracker = soft.tracker();
  CHECK(track(*tracker, guest).changed.size() == 4);
  CHECK(track(*tracker, guest).changed.empty());
  tracker->forget_all();
  CHECK(track(*tracker, guest).changed.size() == 4);
  if (auto able = kernel::probe("soft_dirty"); !able.supported) GODWIT_SKIP(able.reason);
  guest.write(page(2), 3);
  CHECK(track(*tracker, guest).changed == Pages{page(2)});
  guest.map(page(8), 1);
  guest.write(page(8), 3);
  CHECK(track(*tracker, guest).changed == Pages{page(8)});
}

TEST_CASE("soft-dirty: the images that rounds make up are the memory, whatever the process does") {
  if (auto able = kernel::probe("soft_dirty"); !able.supported) GODWIT_SKIP(able.reason);
  SoftDirty soft;
  // The kernel may call all of a mapping changed when a new one was merged with it.
  follow_random_changes(*soft.tracker(), false);
}

TEST_CASE("soft-dirty: without PAGEMAP_SCAN, what may be the page of zeros is never clean") {
  Mapping memory = Mapping::anonymous(2 * kPageSize);
  ::madvise(memory.data(), memory.size(), MADV_NOHUGEPAGE);
  (void)*const_cast<const volatile std::byte*>(memory.data() + kPageSize);
  auto start = reinterpret_cast<uint64_t>(memory.data());
  kernel::PageMap pages(::getpid());
  pages.pretend_no_scan();
  kernel::PageQuery query = kernel::kOwnedPages;
  query.returned = kernel::kPageSoftDirty;
  std::vector<kernel::PageRegion> found;
  pages.scan(start, start + memory.size(), query, found);
  REQUIRE(found.size() == 1);
  CHECK(found[0].start == start + kPageSize);
  CHECK(found[0].categories == kernel::kPageSoftDirty);
}

TEST_CASE("soft-dirty: a process that somebody else has armed since is changed") {
  SoftDirty soft;
  Guest guest;
  guest.map(page(0), 4);
  guest.fill(page(0), 4, 1);
  auto one = soft.tracker(), other = soft.tracker();
  track(*one, guest);
  CHECK(track(*other, guest).changed.size() == 4);
  CHECK(track(*other, guest).changed.empty());
  CHECK(track(*one, guest).changed.size() == 4);
  CHECK(track(*other, guest).changed.size() == 4);
}

TEST_CASE("soft-dirty: the next command goes on from the record, once") {
  SoftDirty soft;
  TemporaryDirectory first, second;
  auto images = images::ImageDirectory::open(first.path());
  auto later_images = images::ImageDirectory::open(second.path());
  Guest guest;
  guest.map(page(0), 4);
  guest.fill(page(0), 4, 1);
  auto tracker = soft.tracker();
  track(*tracker, guest);
  tracker->leave_for_next_command(images);
  auto next = soft.tracker(read_record(images));
  CHECK(track(*next, guest).changed.empty());
  next->leave_for_next_command(later_images);
  CHECK(track(*soft.tracker(read_record(images)), guest).changed.size() == 4);
  CHECK(track(*soft.tracker(read_record(later_images)), guest).changed.size() == 4);
}

TEST_CASE("soft-dirty: of two processes with one memory the second is changed") {
  SoftDirty soft;
  Guest guest;
  guest.map(page(0), 4);
  guest.fill(page(0), 4, 1);
  guest.map(page(100), 16);
  pid_t child = guest.clone_with_shared_memory(page(116));
  REQUIRE(child > 0);
  auto tracker = soft.tracker();
  track_tree(*tracker, guest.pid());
  auto found = track_tree(*tracker, guest.pid());
  CHECK(found.at(guest.pid()).changed.empty());
  CHECK(found.at(child).changed.size() >= 4);
  ::kill(child, SIGKILL);
}

}  // namespace
}  // namespace godwit::memory
