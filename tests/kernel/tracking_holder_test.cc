#include "engine/memory/tracking_holder.h"

#include <doctest/doctest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <filesystem>

#include "engine/kernel/features.h"
#include "engine/memory/make_tracker.h"
#include "engine/memory/tracking_socket.h"
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

// Runs a command of its own process, as `criu pre-dump` is one; false when it threw.
bool in_command(const std::function<void()>& command) {
  pid_t pid = check(::fork(), "fork");
  if (pid == 0) {
    try {
      command();
    } catch (...) {
      ::_exit(1);
    }
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  return status == 0;
}

bool eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 2000; ++i) {
    if (condition()) return true;
    ::usleep(5000);
  }
  return false;
}

// Ended; who reaps it, and when, is not ours to say.
bool ends(pid_t pid) {
  return eventually([&] {
    auto stat = kernel::read_task_stat_if_alive(pid, pid);
    return !stat || stat->state == 'Z';
  });
}

// The process that shows this in ps, perhaps cut short by the space that its arguments had; 0 for none.
pid_t find_by_command_line(const std::string& wanted) {
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    pid_t pid = std::atoi(entry.path().filename().c_str());
    auto line = pid > 0 ? read_file_if_exists(AT_FDCWD, entry.path() / "cmdline") : std::nullopt;
    if (line && line->substr(0, line->find('\0')) == wanted) return pid;
  }
  return 0;
}

struct Chain {
  TemporaryDirectory first, second;
  images::ImageDirectory images = images::ImageDirectory::open(first.path());
  images::ImageDirectory later_images = images::ImageDirectory::open(second.path());
  Guest guest;
  Chain() {
    guest.map(page(0), 8);
    guest.fill(page(0), 8, 1);
    REQUIRE(pre_dump(images));
  }
  ~Chain() {
    take_from_holder(images);
    take_from_holder(later_images);
  }
  bool pre_dump(const images::ImageDirectory& into) {
    return in_command([&] {
      auto tracker = make_write_protect_tracker({});
      track(*tracker, guest);
      tracker->leave_for_next_command(into);
    });
  }
  pid_t holder() const {
    pid_t found = 0;
    std::string line = fmt::format("criu: holds write-protection of pid {}", guest.pid());
    REQUIRE(eventually([&] { return (found = find_by_command_line(line)) != 0; }));
    return found;
  }
  bool has_socket() const { return std::filesystem::exists(first / kHolderSocketName); }
};

TEST_CASE("the next command goes on where the one before stopped") {
  NEEDS_WRITE_PROTECTION();
  Chain chain;
  CHECK(chain.has_socket());
  pid_t holder = chain.holder();
  chain.guest.write(page(3), 4);
  CHECK(in_command([&] {
    auto tracker = make_write_protect_tracker(take_from_holder(chain.images));
    if (track(*tracker, chain.guest).changed != Pages{page(3)}) throw Error("not page 3");
    tracker->leave_for_next_command(chain.later_images);
  }));
  CHECK_FALSE(chain.has_socket());
  CHECK(ends(holder));
  chain.guest.write(page(5), 4);
  auto tracker = make_write_protect_tracker(take_from_holder(chain.later_images));
  CHECK(track(*tracker, chain.guest).changed == Pages{page(5)});
}

TEST_CASE("what was taken once is not there again") {
  NEEDS_WRITE_PROTECTION();
  Chain chain;
  CHECK(take_from_holder(chain.images).size() == 1);
  CHECK(take_from_holder(chain.images).empty());
  auto tracker = make_write_protect_tracker({});
  CHECK(track(*tracker, chain.guest).changed.size() == 8);
}

TEST_CASE("the holder keeps nothing of the command open, and no terminal or working directory") {
  NEEDS_WRITE_PROTECTION();
  Pipe pipe = Pipe::create();  // the command inherits it, as from a caller that reads its output to the end
  Chain chain;
  pid_t holder = chain.holder();
  CHECK(read_link(AT_FDCWD, fmt::format("/proc/{}/cwd", holder)) == "/");
  std::multiset<std::string> open;
  for (const auto& entry : std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", holder))) {
    std::string target = read_link(AT_FDCWD, entry.path());
    open.insert(target.substr(0, target.find('[')));
  }
  open.erase("socket:");
  // The target's pidfd is called anon_inode:[pidfd], or pidfs' own name on newer kernels.
  std::erase_if(open, [](const auto& name) { return name.find("pidfd") != std::string::npos; });
  open.erase("anon_inode:");
  CHECK(open == std::multiset<std::string>{"/dev/null", "/dev/null", "/dev/null", chain.first.path()});
  CHECK(kernel::read_task_stat(holder, holder).tty_device == 0);
}

TEST_CASE("a holder that was killed costs a full round, and no error") {
  NEEDS_WRITE_PROTECTION();
  Chain chain;
  pid_t holder = chain.holder();
  REQUIRE(::kill(holder, SIGKILL) == 0);
  REQUIRE(ends(holder));
  CHECK(chain.has_socket());
  auto held = take_from_holder(chain.images);
  CHECK(held.empty());
  CHECK_FALSE(chain.has_socket());
  auto tracker = make_write_protect_tracker(std::move(held));
  CHECK(track(*tracker, chain.guest).changed.size() == 8);
  chain.guest.write(page(1), 9);
  CHECK(track(*tracker, chain.guest).changed == Pages{page(1)});
}

TEST_CASE("the holder ends with its target, and its socket goes") {
  NEEDS_WRITE_PROTECTION();
  Chain chain;
  pid_t holder = chain.holder();
  chain.guest.end();
  CHECK(ends(holder));
  CHECK_FALSE(chain.has_socket());
}

TEST_CASE("a new chain ends the holder of an old one") {
  NEEDS_WRITE_PROTECTION();
  Chain chain;
  CHECK(chain.pre_dump(chain.later_images));
  CHECK_FALSE(chain.has_socket());
  CHECK(take_from_holder(chain.images).empty());
  chain.guest.write(page(2), 9);
  auto tracker = make_write_protect_tracker(take_from_holder(chain.later_images));
  CHECK(track(*tracker, chain.guest).changed == Pages{page(2)});
}

TEST_CASE("a new chain into the same directory takes the place of the old one") {
  NEEDS_WRITE_PROTECTION();
  Chain chain;
  CHECK(chain.pre_dump(chain.images));
  chain.guest.write(page(2), 9);
  auto tracker = make_write_protect_tracker(take_from_holder(chain.images));
  CHECK(track(*tracker, chain.guest).changed == Pages{page(2)});
}

TEST_CASE("a dump without tracking ends the chain") {
  NEEDS_WRITE_PROTECTION();
  Chain chain;
  pid_t holder = chain.holder();
  end_tracking(chain.images);
  CHECK(ends(holder));
  end_tracking(chain.images);
}

TEST_CASE("more processes than one packet holds, in a directory with a long name") {
  TemporaryDirectory dir;
  std::string deep = dir.path();
  for (int i = 0; i < 3; ++i) {
    deep += "/" + std::string(100, 'd');
    REQUIRE(::mkdir(deep.c_str(), 0700) == 0);
  }
  auto images = images::ImageDirectory::open(deep);
  std::vector<TrackedProcess> processes;
  for (uint64_t i = 0; i < 300; ++i) {
    ProcessIdentity self = identity_of(::getpid());
    self.start_stack = i;
    processes.push_back({self, open_at(AT_FDCWD, "/dev/null", O_RDONLY)});
  }
  leave_with_holder(images, std::move(processes));
  auto taken = take_from_holder(images);
  REQUIRE(taken.size() == 300);
  CHECK(taken[299].identity.start_stack == 299);
  CHECK(taken[299].userfaults);
}

TEST_CASE("a listener that is no holder, or breaks off, costs a full round and no error") {
  TemporaryDirectory dir;
  auto images = images::ImageDirectory::open(dir.path());
  Fd socket = listen_in_directory(images.fd(), kHolderSocketName);
  pid_t impostor = check(::fork(), "fork");
  if (impostor == 0) {
    for (int i = 0; i < 2; ++i) {
      Fd connection(::accept(socket.get(), nullptr, nullptr));
      if (i == 0 && ::send(connection.get(), "hello", 5, MSG_NOSIGNAL) != 5) ::_exit(1);
    }
    ::_exit(0);
  }
  CHECK(take_from_holder(images).empty());
  CHECK(take_from_holder(images).empty());
  int status = 0;
  ::waitpid(impostor, &status, 0);
  CHECK(status == 0);
}

}  // namespace
}  // namespace godwit::memory
