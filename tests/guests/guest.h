#pragma once

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <atomic>

// What guests share: programs that a test dumps and restores, and that check themselves all the while. A
// guest tells its test through a file: the number of rounds it has made, and everything that was not as it
// should be.
namespace guest {

// Opens `path` anew for every report: a guest that tests descriptors must not hold one more than it wants to.
class Report {
 public:
  explicit Report(const char* path) : path_(path) { write_line("%012lu", 0ul); }

  // One more round of checks has passed.
  void tick() {
    int fd = ::open(path_, O_WRONLY | O_CLOEXEC);
    char text[16];
    int length = snprintf(text, sizeof text, "%012lu\n", ++ticks_);
    if (fd >= 0) {
      if (::pwrite(fd, text, static_cast<size_t>(length), 0) < 0) abort();
      ::close(fd);
    }
  }

  __attribute__((format(printf, 2, 3))) void fail(const char* format, ...) {
    if (++failures_ > 20) return;
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    write_line("%s", text);
  }

 private:
  __attribute__((format(printf, 2, 3))) void write_line(const char* format, ...) {
    FILE* file = fopen(path_, "a");
    if (file == nullptr) return;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(file, format, arguments);
    va_end(arguments);
    fputc('\n', file);
    fclose(file);
  }

  const char* path_;
  unsigned long ticks_ = 0;
  std::atomic<int> failures_{0};
};

}  // namespace guest

// In a function that has a guest::Report `report`.
#define EXPECT(condition) \
  if (!(condition)) report.fail("%s:%d: %s (errno %s)", __FILE_NAME__, __LINE__, #condition, strerror(errno))
