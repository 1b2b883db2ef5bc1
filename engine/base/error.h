#pragma once

#include <fmt/format.h>

#include <cerrno>
#include <exception>
#include <string>
#include <tuple>
#include <utility>

// Errors are exceptions that read from the outside in: `dump pid 42: fd 5: openat(/srv/x): No such file or
// directory`. The throwing place names the call and its object; the scopes around it add themselves with
// ErrorContext, whose text is only made when something is thrown.
namespace godwit {

namespace internal {

// One link of a thread's chain of open ErrorContexts, innermost first.
class ErrorContextBase {
 public:
  ErrorContextBase(const ErrorContextBase&) = delete;
  ErrorContextBase& operator=(const ErrorContextBase&) = delete;
  virtual std::string describe() const = 0;
  const ErrorContextBase* outer() const { return outer_; }

 protected:
  ErrorContextBase() noexcept;
  virtual ~ErrorContextBase();

 private:
  const ErrorContextBase* outer_;
};

}  // namespace internal

// Adds "TEXT: " to the front of every Error made while it lives on this thread. The arguments are copied, so
// pass numbers and strings, not references to things that may go. Never hold one across a co_await: the chain
// belongs to the thread, not to the coroutine.
template <class... Args>
class ErrorContext final : public internal::ErrorContextBase {
 public:
  explicit ErrorContext(const char* format, Args... args) : format_(format), args_(std::move(args)...) {}
  std::string describe() const override {
    return std::apply([&](const Args&... args) { return fmt::format(fmt::runtime(format_), args...); },
                      args_);
  }

 private:
  const char* format_;
  std::tuple<Args...> args_;
};
template <class... Args>
ErrorContext(const char*, Args...) -> ErrorContext<Args...>;

// Base of everything that godwit throws.
class Error : public std::exception {
 public:
  template <class... Args>
  explicit Error(fmt::format_string<Args...> format, Args&&... args)
      : Error(Finished{}, fmt::format(format, std::forward<Args>(args)...)) {}
  const char* what() const noexcept override { return text_.c_str(); }

 protected:
  struct Finished {};
  Error(Finished, const std::string& text);

 private:
  std::string text_;
};

// A system call that failed: `throw SystemError(errno, "openat({})", path)`. code() is the errno.
class SystemError : public Error {
 public:
  template <class... Args>
  SystemError(int code, fmt::format_string<Args...> format, Args&&... args)
      : Error(Finished{}, fmt::format(format, std::forward<Args>(args)...) + ": " + errno_text(code)),
        code_(code) {}
  int code() const { return code_; }

  // The C library's words for an errno.
  static std::string errno_text(int code);

 private:
  int code_;
};

// What the user asked for cannot be done as asked: wrong options, unusable arguments. Ends with exit code 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

// Something we know, and refuse by name: an object that cannot be dumped, an option of later work.
class RefusedError : public Error {
 public:
  using Error::Error;
};

// Bytes from outside (an image, a page-server message, an RPC request, /proc text) that are not what they
// must be.
class FormatError : public Error {
 public:
  using Error::Error;
};

// The result of a system call, or SystemError. Use where the call's name and object fit in one line:
//   int fd = check(::openat(dir, name, flags), "openat({})", name);
template <class Result, class... Args>
Result check(Result result, fmt::format_string<Args...> format, Args&&... args) {
  if (result < 0) {
    int code = errno;
    throw SystemError(code, format, std::forward<Args>(args)...);
  }
  return result;
}

}  // namespace godwit
