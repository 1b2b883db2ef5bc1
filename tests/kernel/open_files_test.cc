// Each kind of file, collected from a process that holds it, written, read, and opened again.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/files/build_id.h"
#include "engine/files/description_state.h"
#include "engine/kernel/fdinfo.h"
#include "tests/support/file_holder.h"

using namespace godwit;
using test::FileDump;
using test::FileHolder;

namespace {

// Makes `fd` the descriptor `number` of this process.
void place(int fd, int number, int flags = 0) {
  check(::dup3(fd, number, flags), "dup3");
  ::close(fd);
}

kernel::FdInfo own_info(int fd) {
  return kernel::parse_fdinfo(read_file(AT_FDCWD, fmt::format("/proc/self/fdinfo/{}", fd)));
}

void write_text(const std::string& path, std::string_view text) {
  Fd fd = open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  write_all(fd.get(), std::as_bytes(std::span(text)), path.c_str());
}

std::string read_text(int fd, size_t size) {
  std::string text(size, '\0');
  text.resize(read_up_to(fd, std::as_writable_bytes(std::span(text)), "test"));
  return text;
}

std::string plan_of(files::FileOpener& opener) {
  kinds::Problems problems;
  opener.plan(problems);
  return FileDump::joined(problems);
}

}  // namespace

TEST_CASE("regular files, directories and devices come back with position, flags and mode") {
  test::TemporaryDirectory directory;
  write_text(directory / "a", "0123456789");
  FileHolder holder([&] {
    place(::open((directory / "a").c_str(), O_RDWR | O_NONBLOCK), 5);
    ::lseek(5, 7, SEEK_SET);
    place(::open((directory / "a").c_str(), O_WRONLY | O_APPEND), 6, O_CLOEXEC);
    place(::open(directory.path().c_str(), O_RDONLY | O_DIRECTORY), 7);
    place(::open((directory / "a").c_str(), O_PATH), 8);
    place(::open("/dev/null", O_RDWR), 9);
    place(::open("/dev/urandom", O_RDONLY), 10);
  });
  FileDump dump;
  dump.add(holder);
  REQUIRE(dump.problems() == "");
  auto files = dump.opener();
  CHECK(plan_of(*files) == "");

  int read_write = files->open(dump.row(1, 5).id());
  CHECK(own_info(read_write).position == 7);
  CHECK((own_info(read_write).flags & (O_ACCMODE | O_NONBLOCK)) == (O_RDWR | O_NONBLOCK));
  CHECK(read_text(read_write, 100) == "789");
  int append = files->open(dump.row(1, 6).id());
  CHECK((own_info(append).flags & (O_ACCMODE | O_APPEND)) == (O_WRONLY | O_APPEND));
  CHECK((own_info(files->open(dump.row(1, 7).id())).flags & O_DIRECTORY) != 0);
  CHECK((own_info(files->open(dump.row(1, 8).id())).flags & O_PATH) != 0);
  struct stat status {};
  REQUIRE(::fstat(files->open(dump.row(1, 9).id()), &status) == 0);
  CHECK(status.st_rdev == 0x103);
  CHECK(read_text(files->open(dump.row(1, 10).id()), 4).size() == 4);
  CHECK(files->path_of(dump.row(1, 5).id()) == directory / "a");
  CHECK(dump.row(1, 6).flags() == FD_CLOEXEC);
  CHECK(dump.row(1, 5).flags() == 0);

  // As CRIU writes them: no size for logs and devices, no mount id without mount namespaces.
  const auto& log = files->entry(dump.row(1, 6).id()).reg();
  CHECK_FALSE(log.has_size());
  CHECK(log.mode() == (S_IFREG | 0644));
  CHECK(files->entry(dump.row(1, 5).id()).reg().size() == 10);
  CHECK(log.mnt_id() == -1);
  CHECK_FALSE(files->entry(dump.row(1, 9).id()).reg().has_size());
}

TEST_CASE("a restore does not take a file that differs") {
  test::TemporaryDirectory directory;
  for (const char* name : {"gone", "grown", "mode", "type"}) write_text(directory / name, "text");
  FileHolder holder([&] {
    int number = 3;
    for (const char* name : {"gone", "grown", "mode", "type"}) {
      place(::open((directory / name).c_str(), O_RDONLY), number++ + 10);
    }
    place(::open((directory / "gone").c_str(), O_RDONLY), 3);
  });
  FileDump dump;
  dump.add(holder);
  REQUIRE(dump.problems() == "");
  auto files = dump.opener();
  std::filesystem::remove(directory / "gone");
  write_text(directory / "grown", "text text");
  ::chmod((directory / "mode").c_str(), 0600);
  std::filesystem::remove(directory / "type");
  std::filesystem::create_directory(directory / "type");
  std::string problems = plan_of(*files);
  auto reports = [&](const std::string& text) { return problems.find(text) != std::string::npos; };
  CHECK(reports(directory / "gone: does not exist here"));
  CHECK(reports(directory / "grown: has 9 bytes here and had 4 at the dump"));
  CHECK(reports(directory / "mode: has mode 0600 here and had 0644 at the dump"));
  CHECK(reports(directory / "type: is a directory here and was a regular file at the dump"));
}

TEST_CASE("an ELF file of the same size with another build id is not taken") {
  test::TemporaryDirectory directory;
  std::filesystem::copy_file("/bin/true", directory / "program");
  FileDump dump;
  uint32_t id = 0;
  {
    Fd fd = open_at(AT_FDCWD, directory / "program", O_RDONLY);
    id = dump.collector().add_path_file(fmt::format("/proc/self/fd/{}", fd.get()), O_RDONLY);
    CHECK(id == dump.collector().add_path_file(fmt::format("/proc/self/fd/{}", fd.get()), O_RDONLY));
    CHECK(id != dump.collector().add_path_file(fmt::format("/proc/self/fd/{}", fd.get()), O_RDWR));
  }
  auto files = dump.opener();
  CHECK(plan_of(*files) == "");
  const auto& packed = files->entry(id).reg().build_id();
  REQUIRE(packed.size() == 5);  // Debian's are SHA-1

  std::string bytes = read_file(AT_FDCWD, directory / "program");
  size_t at = bytes.find(std::string(reinterpret_cast<const char*>(packed.data()), 20));
  REQUIRE(at != std::string::npos);
  bytes[at] = static_cast<char>(bytes[at] ^ 1);
  { write_text(directory / "program", bytes); }
  CHECK(plan_of(*files).find("program: has another build id here") != std::string::npos);
  // Bytes that only look like an ELF file.
  for (size_t size : {size_t{0}, size_t{5}, size_t{20}, size_t{64}, size_t{300}, size_t{700}}) {
    write_text(directory / "cut", bytes.substr(0, size));
    CHECK(files::read_build_id(open_at(AT_FDCWD, directory / "cut", O_RDONLY).get()).size() <= 5);
  }
}

TEST_CASE("descriptors of one description share an id, within a process and across a fork") {
  test::TemporaryDirectory directory;
  write_text(directory / "a", "0123456789");
  test::Shared<std::atomic<pid_t>> forked;
  FileHolder holder([&] {
    place(::open((directory / "a").c_str(), O_RDWR), 3);
    ::dup2(3, 4);
    place(::open((directory / "a").c_str(), O_RDWR), 5);
    for (int number = 10; number < 60; ++number) ::dup3(number % 2 ? 3 : 5, number, 0);
    place(::eventfd(0, 0), 6);
    place(::eventfd(0, 0), 7);
    pid_t child = ::fork();
    if (child == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::close(5);
      for (;;) ::pause();
    }
    *forked = child;
  });
  FileDump dump;
  dump.add(holder);
  REQUIRE(test::eventually(
      [&] { return !read_link_if_exists(AT_FDCWD, fmt::format("/proc/{}/fd/5", forked->load())); }));
  dump.collector().collect_process(*forked, 2);
  REQUIRE(dump.problems() == "");
  auto files = dump.opener();
  CHECK(dump.row(1, 3).id() == dump.row(1, 4).id());
  CHECK(dump.row(1, 3).id() != dump.row(1, 5).id());
  CHECK(dump.row(1, 6).id() != dump.row(1, 7).id());
  CHECK(dump.row(2, 3).id() == dump.row(1, 3).id());
  CHECK(dump.row(2, 10).id() == dump.row(1, 5).id());
  CHECK(dump.row(2, 7).id() == dump.row(1, 7).id());
  CHECK(dump.images().open(images::Kind::kFiles).read_all<pb::file_entry>().size() == 4);
}

TEST_CASE("a pipe keeps its contents, capacity and flags, and the dump takes nothing out") {
  FileHolder holder([] {
    int ends[2];
    check(::pipe2(ends, O_NONBLOCK), "pipe2");
    place(ends[0], 20);
    place(ends[1], 21);
    ::fcntl(21, F_SETPIPE_SZ, 131072);
    check(::write(21, "in the pipe", 11), "write");
    check(::pipe2(ends, 0), "pipe2");
    place(ends[0], 30);  // a second description of its write end
    place(ends[1], 31);
    place(::open("/proc/self/fd/31", O_WRONLY), 32);
    check(::pipe2(ends, 0), "pipe2");
    check(::write(ends[1], "rest", 4), "write");
    ::close(ends[1]);
    place(ends[0], 40);  // nobody can write any more
  });
  FileDump dump;
  dump.add(holder);
  REQUIRE(dump.problems() == "");
  int waiting = 0;
  Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, holder.pid(), 0)));
  Fd original(static_cast<int>(::syscall(SYS_pidfd_getfd, pidfd.get(), 20, 0)));
  REQUIRE(::ioctl(original.get(), FIONREAD, &waiting) == 0);
  CHECK(waiting == 11);

  auto files = dump.opener();
  CHECK(plan_of(*files) == "");
  files->open_all();
  int reader = files->open(dump.row(1, 20).id()), writer = files->open(dump.row(1, 21).id());
  CHECK(::fcntl(reader, F_GETPIPE_SZ) == 131072);
  CHECK((::fcntl(reader, F_GETFL) & O_NONBLOCK) != 0);
  char buffer[100] = "";
  CHECK(::read(reader, buffer, sizeof buffer) == 11);
  CHECK(std::string(buffer) == "in the pipe");
  CHECK(::write(writer, "more", 4) == 4);
  CHECK(::read(reader, buffer, sizeof buffer) == 4);

  int plain = files->open(dump.row(1, 30).id());
  int first = files->open(dump.row(1, 31).id()), second = files->open(dump.row(1, 32).id());
  CHECK((::fcntl(plain, F_GETFL) & O_NONBLOCK) == 0);
  CHECK(::syscall(SYS_kcmp, ::getpid(), ::getpid(), KCMP_FILE, first, second) != 0);
  CHECK(::write(first, "1", 1) == 1);
  CHECK(::write(second, "2", 1) == 1);
  CHECK(read_text(plain, 2) == "12");
  CHECK(read_text(files->open(dump.row(1, 40).id()), 100) == "rest");  // and the end
}

TEST_CASE("a pipe that leads out of the tree is a problem, one that leads nowhere is not") {
  Pipe in = Pipe::create(), out = Pipe::create();
  FileHolder holder([&] {
    int ends[2];
    check(::pipe2(ends, 0), "pipe2");
    place(ends[0], 9);
    ::close(ends[1]);
  });
  FileDump dump;
  dump.add(holder);
  CHECK(dump.problems() == "");

  int read_end = in.read_end.get(), write_end = out.write_end.get();
  test::Shared<std::atomic<bool>> ready;
  test::Child child([&] {
    ::dup2(read_end, 100);
    ::dup2(write_end, 101);
    ::close_range(0, 99, 0);
    ::close_range(102, ~0u, 0);
    *ready = true;
    for (;;) ::pause();
  });
  REQUIRE(test::eventually([&] { return ready->load(); }));
  files::FileCollector collector(tree::make_file_kinds(), {});
  collector.collect_process(child.pid(), 1);
  collector.check_whole();
  std::string problems = FileDump::joined(collector.problems());
  auto place_text = [&](int number) {
    return fmt::format("pid {}: fd {}: {}", child.pid(), number,
                       read_link(AT_FDCWD, fmt::format("/proc/{}/fd/{}", child.pid(), number)));
  };
  CHECK(problems.find(place_text(100) + ": its write end is held outside") != std::string::npos);
  CHECK(problems.find(place_text(101) + ": its read end is held outside") != std::string::npos);
}

TEST_CASE("pipe packets") {
  FileHolder empty([] {
    int ends[2];
    check(::pipe2(ends, O_DIRECT), "pipe2");
    place(ends[0], 20);
    place(ends[1], 21);
  });
  FileDump dump;
  dump.add(empty);
  CHECK(dump.problems() == "");
  auto files = dump.opener();
  CHECK(plan_of(*files) == "");
  files->open_all();
  int reader = files->open(dump.row(1, 20).id()), writer = files->open(dump.row(1, 21).id());
  CHECK(::write(writer, "one", 3) == 3);
  CHECK(::write(writer, "two", 3) == 3);
  CHECK(read_text(reader, 3) == "one");

  FileHolder full([] {
    int ends[2];
    check(::pipe2(ends, O_DIRECT), "pipe2");
    check(::write(ends[1], "packet", 6), "write");
  });
  FileDump other;
  other.add(full);
  CHECK(other.problems().find("packets wait in it") != std::string::npos);
}

TEST_CASE("an eventfd keeps a counter of 64 bits and its semaphore mode") {
  FileHolder holder([] {
    place(::eventfd(0, EFD_NONBLOCK), 5);
    uint64_t large = 0x1'0000'0007;
    check(::write(5, &large, sizeof large), "write");
    place(::eventfd(3, EFD_SEMAPHORE), 6);
    place(::eventfd(0, EFD_NONBLOCK), 7);
  });
  FileDump dump;
  dump.add(holder);
  REQUIRE(dump.problems() == "");
  auto files = dump.opener();
  uint64_t value = 0;
  CHECK(::read(files->open(dump.row(1, 5).id()), &value, sizeof value) == 8);
  CHECK(value == 0x1'0000'0007);
  for (int i = 0; i < 2; ++i) CHECK(::read(files->open(dump.row(1, 6).id()), &value, sizeof value) == 8);
  CHECK(value == 1);
  CHECK((::fcntl(files->open(dump.row(1, 6).id()), F_GETFL) & O_NONBLOCK) == 0);
  CHECK(::read(files->open(dump.row(1, 7).id()), &value, sizeof value) == -1);
  CHECK(errno == EAGAIN);
}

TEST_CASE("a timerfd goes on: time to go, interval, expirations not read yet") {
  FileHolder holder([] {
    itimerspec far{.it_interval = {7, 8}, .it_value = {1000, 0}};
    place(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), 5);
    ::timerfd_settime(5, 0, &far, nullptr);
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME, &now);
    itimerspec date{.it_interval = {0, 0}, .it_value = {now.tv_sec + 1000, 0}};
    place(::timerfd_create(CLOCK_REALTIME, 0), 6);
    ::timerfd_settime(6, TFD_TIMER_ABSTIME, &date, nullptr);
    itimerspec due{.it_interval = {500, 0}, .it_value = {0, 1}};
    place(::timerfd_create(CLOCK_MONOTONIC, 0), 7);
    ::timerfd_settime(7, 0, &due, nullptr);
    pollfd expired{7, POLLIN, 0};
    ::poll(&expired, 1, -1);
    place(::timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK), 8);
  });
  FileDump dump;
  dump.add(holder);
  REQUIRE(dump.problems() == "");
  auto files = dump.opener();
  auto time_of = [&](int number) {
    itimerspec time{};
    REQUIRE(::timerfd_gettime(files->open(dump.row(1, number).id()), &time) == 0);
    return time;
  };
  auto about = [](const timespec& time, long seconds) {
    return time.tv_sec <= seconds && time.tv_sec > seconds - 100;
  };
  CHECK(about(time_of(5).it_value, 1000));
  CHECK(time_of(5).it_interval.tv_nsec == 8);
  CHECK((::fcntl(files->open(dump.row(1, 5).id()), F_GETFL) & O_NONBLOCK) != 0);
  CHECK(about(time_of(6).it_value, 1000));
  CHECK(files->entry(dump.row(1, 6).id()).tfd().settime_flags() == TFD_TIMER_ABSTIME);
  uint64_t ticks = 0;
  CHECK(::read(files->open(dump.row(1, 7).id()), &ticks, sizeof ticks) == 8);
  CHECK(ticks == 1);
  CHECK(about(time_of(7).it_value, 500));  // an interval timer that was due would have stood still
  CHECK(time_of(8).it_value.tv_sec == 0);
}

TEST_CASE("the owner of a file for SIGIO") {
  FileHolder holder([] {
    int ends[2];
    check(::pipe2(ends, 0), "pipe2");
    place(ends[0], 20);
    place(ends[1], 21);
    f_owner_ex owner{F_OWNER_PID, ::getppid()};
    check(::fcntl(20, F_SETOWN_EX, &owner), "F_SETOWN_EX");
    check(::fcntl(20, F_SETSIG, SIGUSR1), "F_SETSIG");
  });
  FileDump dump;
  dump.add(holder);
  REQUIRE(dump.problems() == "");
  auto files = dump.opener();
  CHECK(plan_of(*files) == "");
  const auto& owner = files->entry(dump.row(1, 20).id()).pipe().fown();
  CHECK(owner.pid() == static_cast<uint32_t>(::getpid()));
  tracee::Batch batch;
  files->add_finish_calls(1, batch);
  CHECK(batch.empty());
  int fd = files->open(dump.row(1, 20).id());
  CHECK(::fcntl(fd, F_GETSIG) == SIGUSR1);
  f_owner_ex who{};
  CHECK(::fcntl(fd, F_GETOWN_EX, &who) == 0);
  CHECK(who.type == F_OWNER_PID);
  CHECK(who.pid == ::getpid());
  // With other uids: ours are as before.
  pb::fown_entry other = owner;
  other.set_uid(1234);
  other.set_euid(1235);
  files::set_owner(fd, other);
  uid_t uids[2] = {};
  CHECK(::fcntl(fd, 17 /* F_GETOWNER_UIDS */, uids) == 0);
  CHECK(uids[0] == 1234);
  CHECK(uids[1] == 1235);
  CHECK(::getuid() == 0);
  CHECK(::geteuid() == 0);
}
