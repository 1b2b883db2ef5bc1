// memory REPORT: mappings of every kind that a process may have for itself, and what hangs on its threads:
// rseq, the vdso, a robust mutex, a stack that grows, many descriptors.
#include <errno.h>
#include <fcntl.h>
#include <linux/rseq.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include <string>

#include "guest.h"

namespace {

constexpr size_t kPage = 4096;

struct Areas {
  char *hidden, *private_file, *shared_file, *locked, *advised[4], *read_only, *write_only, *reserved, *grows;
};

char* map_anonymous(size_t pages, int protection = PROT_READ | PROT_WRITE, int flags = 0) {
  void* area = ::mmap(nullptr, pages * kPage, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
  if (area == MAP_FAILED) abort();
  return static_cast<char*>(area);
}

void fill(char* area, size_t pages, char what) {
  for (size_t page = 0; page < pages; ++page)
    memset(area + page * kPage, what + static_cast<char>(page % 8), kPage);
}

bool holds(const char* area, size_t pages, char what) {
  for (size_t page = 0; page < pages; ++page) {
    for (size_t at : {size_t{0}, size_t{1717}, kPage - 1}) {
      if (area[page * kPage + at] != what + static_cast<char>(page % 8)) return false;
    }
  }
  return true;
}

Areas map_all(const std::string& base, guest::Report& report) {
  Areas areas{};
  areas.hidden = map_anonymous(16);
  fill(areas.hidden, 16, 'h');
  EXPECT(::mprotect(areas.hidden, 16 * kPage, PROT_NONE) == 0);
  int fd = ::open((base + ".file").c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  std::string text(8 * kPage, 'f');
  EXPECT(::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  areas.private_file =
      static_cast<char*>(::mmap(nullptr, 8 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0));
  areas.shared_file =
      static_cast<char*>(::mmap(nullptr, 4 * kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 4 * kPage));
  EXPECT(areas.private_file != MAP_FAILED && areas.shared_file != MAP_FAILED);
  areas.private_file[kPage] = 'P';
  areas.shared_file[kPage] = 'S';
  ::close(fd);
  areas.locked = map_anonymous(4);
  fill(areas.locked, 4, 'l');
  EXPECT(::mlock(areas.locked, 4 * kPage) == 0);
  const int advice[4] = {MADV_DONTFORK, MADV_DONTDUMP, MADV_NOHUGEPAGE, MADV_SEQUENTIAL};
  for (int i = 0; i < 4; ++i) {
    areas.advised[i] = map_anonymous(4);
    fill(areas.advised[i], 4, 'a');
    EXPECT(::madvise(areas.advised[i], 4 * kPage, advice[i]) == 0);
    map_anonymous(1, PROT_NONE);
  }
  areas.read_only = map_anonymous(4);
  fill(areas.read_only, 4, 'r');
  EXPECT(::mprotect(areas.read_only, 4 * kPage, PROT_READ) == 0);
  areas.write_only = map_anonymous(2);
  fill(areas.write_only, 2, 'w');
  EXPECT(::mprotect(areas.write_only, 2 * kPage, PROT_WRITE) == 0);
  // More than any machine has: only reserved addresses.
  areas.reserved = map_anonymous(size_t{1} << 30, PROT_NONE, MAP_NORESERVE);
  EXPECT(::mprotect(areas.reserved + 5 * kPage, kPage, PROT_READ | PROT_WRITE) == 0);
  areas.reserved[5 * kPage] = 'R';
  map_anonymous(size_t{1} << 30, PROT_NONE);
  areas.grows = map_anonymous(64, PROT_READ | PROT_WRITE, MAP_GROWSDOWN);
  memset(areas.grows, 'g', kPage);
  return areas;
}

void check_areas(const Areas& areas, guest::Report& report) {
  EXPECT(::mprotect(areas.hidden, 16 * kPage, PROT_READ) == 0 && holds(areas.hidden, 16, 'h') &&
         ::mprotect(areas.hidden, 16 * kPage, PROT_NONE) == 0);
  EXPECT(areas.private_file[0] == 'f' && areas.private_file[kPage] == 'P' &&
         areas.private_file[kPage + 1] == 'f');
  EXPECT(areas.shared_file[0] == 'f' && areas.shared_file[kPage] == 'S');
  // The private mapping sees what is written through the shared one, where it has no page of its own.
  static char next = 0;
  areas.shared_file[7] = ++next;
  EXPECT(areas.private_file[4 * kPage + 7] == next);
  EXPECT(holds(areas.locked, 4, 'l') && holds(areas.read_only, 4, 'r'));
  for (char* advised : areas.advised) EXPECT(holds(advised, 4, 'a'));
  EXPECT(areas.reserved[5 * kPage] == 'R' && areas.reserved[5 * kPage + 1] == 0);
  EXPECT(areas.grows[0] == 'g' && areas.grows[kPage - 1] == 'g' && areas.grows[kPage] == 0);
  areas.write_only[3] = 'x';
}

// Needs more of the stack than it ever had before.
__attribute__((noinline)) int grow_stack(int pages) {
  volatile char frame[kPage];
  frame[0] = static_cast<char>(pages);
  return pages == 0 ? frame[0] : grow_stack(pages - 1) + (frame[0] == static_cast<char>(pages) ? 1 : 0);
}

void check_rseq(guest::Report& report) {
  auto* area =
      reinterpret_cast<volatile struct rseq*>(static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset);
  EXPECT(__rseq_size > 0);
  // The kernel writes it on every return from being scheduled away.
  ::sched_yield();
  unsigned cpu = area->cpu_id;
  EXPECT(cpu < static_cast<unsigned>(::sysconf(_SC_NPROCESSORS_CONF)));
  cpu_set_t all, one;
  ::sched_getaffinity(0, sizeof all, &all);
  CPU_ZERO(&one);
  int other = CPU_ISSET(1, &all) && cpu == 0 ? 1 : 0;
  CPU_SET(other, &one);
  // A restore in between runs it anywhere again: images hold no affinity.
  bool follows = false;
  for (int tries = 0; tries < 5 && !follows; ++tries) {
    EXPECT(::sched_setaffinity(0, sizeof one, &one) == 0);
    follows = area->cpu_id == static_cast<unsigned>(other);
  }
  EXPECT(follows);
  EXPECT(::sched_setaffinity(0, sizeof all, &all) == 0);
}

void check_time(guest::Report& report) {
  static timespec last{};
  timespec fast{}, exact{};
  EXPECT(::clock_gettime(CLOCK_MONOTONIC, &fast) == 0);  // by the vdso
  EXPECT(::syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &exact) == 0);
  auto seconds = [](const timespec& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
  };
  EXPECT(seconds(fast) <= seconds(exact) && seconds(exact) - seconds(fast) < 5);
  EXPECT(seconds(last) <= seconds(fast));
  last = fast;
}

pthread_mutex_t g_robust;
std::atomic<bool> g_die{false}, g_holds{false};
void* hold_and_die(void*) {
  pthread_mutex_lock(&g_robust);
  g_holds = true;
  while (!g_die) usleep(1000);
  return nullptr;  // without unlocking
}

void start_holder(pthread_t& thread, guest::Report& report) {
  g_die = g_holds = false;
  EXPECT(::pthread_create(&thread, nullptr, hold_and_die, nullptr) == 0);
  while (!g_holds) usleep(1000);
}

// The holder of the robust mutex ends: whoever takes it next is told.
void check_robust(pthread_t& holder, guest::Report& report) {
  EXPECT(::pthread_mutex_trylock(&g_robust) == EBUSY);
  g_die = true;
  EXPECT(::pthread_mutex_lock(&g_robust) == EOWNERDEAD);
  EXPECT(::pthread_mutex_consistent(&g_robust) == 0 && ::pthread_mutex_unlock(&g_robust) == 0);
  EXPECT(::pthread_join(holder, nullptr) == 0);
  start_holder(holder, report);
}

void open_many(guest::Report& report) {
  rlimit limit{1024, 1024};
  EXPECT(::setrlimit(RLIMIT_NOFILE, &limit) == 0);
  for (int fd = 3; fd < 1000; fd += fd % 7 == 0 ? 5 : 1) {
    int null = ::open("/dev/null", fd % 2 == 0 ? O_RDONLY : O_WRONLY);
    if (null != fd) {
      EXPECT(::dup3(null, fd, fd % 3 == 0 ? O_CLOEXEC : 0) == fd);
      ::close(null);
    }
  }
}

void check_many(guest::Report& report) {
  for (int fd = 3; fd < 1000; fd += fd % 7 == 0 ? 5 : 1) {
    int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0 || (flags & O_ACCMODE) != (fd % 2 == 0 ? O_RDONLY : O_WRONLY))
      report.fail("descriptor %d: %x", fd, flags);
  }
}

}  // namespace

int main(int count, char** argv) {
  guest::Report report(argv[1]);
  Areas areas = map_all(argv[1], report);
  if (count > 2) open_many(report);
  pthread_mutexattr_t attributes;
  ::pthread_mutexattr_init(&attributes);
  ::pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  ::pthread_mutex_init(&g_robust, &attributes);
  pthread_t holder;
  start_holder(holder, report);
  std::string go_deep = std::string(argv[1]) + ".deep";
  for (;;) {
    check_areas(areas, report);
    check_rseq(report);
    check_time(report);
    if (count > 2) check_many(report);
    if (::access(go_deep.c_str(), F_OK) == 0) {
      check_robust(holder, report);
      EXPECT(grow_stack(500) == 500);
      ::unlink(go_deep.c_str());
    }
    report.tick();
    usleep(2000);
  }
}
