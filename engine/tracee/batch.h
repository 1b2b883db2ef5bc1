#pragma once

#include <sys/types.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/base/error.h"
#include "engine/tracee/remote_address.h"
#include "engine/tracee/stub.h"

namespace godwit::tracee {

enum class OnFailure { kStop, kContinue };

// A list of system calls for a tracee to run, with the data they read and write. A value: build it, hand it
// to a RemoteCaller, ask the BatchResults with the handles that put(), reserve() and call() gave.
//
//   Batch batch;
//   auto path = batch.put_string("/etc/hosts");
//   auto fd = batch.call(SYS_openat, {AT_FDCWD, path, O_RDONLY});
//   batch.call(SYS_dup3, {fd, 7, 0});
//   batch.call(SYS_close, {fd});
class Batch {
 public:
  // A piece of the batch's data area.
  class Data {
   public:
    uint64_t size() const { return size_; }
    // The piece of this one that starts at `offset`; its size is the rest.
    Data at(uint64_t offset) const { return Data(offset_ + offset, size_ - offset, returned_); }

   private:
    friend class Batch;
    friend class BatchResults;
    friend class BatchImage;
    Data(uint64_t offset, uint64_t size, bool returned) : offset_(offset), size_(size), returned_(returned) {}
    uint64_t offset_, size_;
    bool returned_;
  };

  // The result of a call of this batch.
  class Result {
   private:
    friend class Batch;
    friend class BatchResults;
    friend class BatchImage;
    explicit Result(uint32_t index) : index_(index) {}
    uint32_t index_;
  };

  // A number, an address in the tracee, the address that a Data will have, or the result of an earlier call.
  class Argument {
   public:
    template <class T>
    requires(std::is_integral_v<T> || std::is_enum_v<T>) Argument(T value)  // NOLINT: meant to convert
        : value_(static_cast<uint64_t>(value)) {}
    Argument() = default;
    Argument(RemoteAddress address) : value_(address.value) {}                // NOLINT
    Argument(Data data) : kind_(Kind::kData), value_(data.offset_) {}         // NOLINT
    Argument(Result result) : kind_(Kind::kResult), value_(result.index_) {}  // NOLINT

   private:
    friend class BatchImage;
    enum class Kind : uint8_t { kValue, kData, kResult };
    Kind kind_ = Kind::kValue;
    uint64_t value_ = 0;
  };

  // Data that calls read; it is not read back.
  Data put(std::span<const std::byte> bytes, size_t align = 16);
  Data put_string(std::string_view text);  // with a terminating zero
  template <class T>
  requires std::is_trivially_copyable_v<T> Data put_object(const T& value) {
    return put(bytes_of(value), 16);
  }
  // Data that calls write, zero before; BatchResults has it afterwards.
  Data reserve(size_t size, size_t align = 16);
  // Both: read by calls, changed by them, and in the BatchResults.
  Data put_in_out(std::span<const std::byte> bytes, size_t align = 16);
  template <class T>
  requires std::is_trivially_copyable_v<T> Data put_in_out_object(const T& value) {
    return put_in_out(bytes_of(value), 16);
  }
  // Stores the address that `target` will have in the 8 bytes at `offset` of `where` (an iovec's base, ...).
  void patch(Data where, uint64_t offset, Data target);

  // Appends a system call. kStop: when it fails, nothing after it is run.
  Result call(long nr, std::initializer_list<Argument> arguments, OnFailure on_failure = OnFailure::kStop) {
    return call(nr, std::span(arguments.begin(), arguments.size()), on_failure);
  }
  Result call(long nr, std::span<const Argument> arguments, OnFailure on_failure = OnFailure::kStop);
  // Appends a step that stores the result of an earlier call in the 4 or 8 bytes at `offset` of `where`, for
  // the calls that follow (exe_fd in prctl_mm_map, ...).
  void store32(Result result, Data where, uint64_t offset = 0);
  void store64(Result result, Data where, uint64_t offset = 0);

  size_t size() const { return calls_.size(); }
  bool empty() const { return calls_.empty(); }

 private:
  friend class BatchImage;
  friend class BatchResults;
  struct Call {
    long nr = 0;
    Argument arguments[6];
    uint64_t flags = 0;
  };
  struct Patch {
    uint64_t where, target;  // offsets in the data area
  };
  Data place(size_t size, size_t align, bool returned);
  void store(Result result, Data where, uint64_t offset, uint64_t flag, uint64_t width);

  std::vector<Call> calls_;
  std::vector<std::byte> data_;
  std::vector<Patch> patches_;
  std::vector<Data> returned_;
};

// What came of a batch.
class BatchResults {
 public:
  // The raw result of a call: its value or -errno.
  int64_t value(Batch::Result result) const;
  // Whether the call was run and did not fail.
  bool ok(Batch::Result result) const;
  // False for a call after the one that stopped the batch.
  bool was_run(Batch::Result result) const;
  // The value of a call that must not fail; SystemError `pid 42: TEXT: ...` if it did, Error if it was not
  // run.
  template <class... Args>
  int64_t check(Batch::Result result, fmt::format_string<Args...> format, Args&&... args) const {
    if (!ok(result)) throw_failure(result, fmt::format(format, std::forward<Args>(args)...));
    return value(result);
  }
  // No call that had to succeed failed, so all were run; else SystemError that names the first such call by
  // `what` and its number.
  void check_all(std::string_view what) const;
  bool stopped_early() const;

  // The contents of a reserve() or put_in_out() after the batch.
  std::span<const std::byte> bytes(Batch::Data data) const;
  template <class T>
  requires std::is_trivially_copyable_v<T> T get(Batch::Data data, uint64_t offset = 0)
  const {
    T value;
    std::memcpy(&value, checked(data, offset, sizeof value), sizeof value);
    return value;
  }
  // The tids (as we see them) of the tasks that the batch's clone calls made, in their order; each of them is
  // traced by us and waits for RemoteCaller::adopt.
  const std::vector<pid_t>& new_tasks() const { return new_tasks_; }

 private:
  friend class BatchImage;
  friend class BatchSession;
  [[noreturn]] void throw_failure(Batch::Result result, const std::string& what) const;
  // The call whose failure ended the batch, or null.
  const StubDescriptor* stopping_call() const;
  const std::byte* checked(Batch::Data data, uint64_t offset, uint64_t size) const;

  pid_t pid_ = 0;
  std::vector<StubDescriptor> descriptors_;
  std::vector<std::byte> data_;
  std::vector<pid_t> new_tasks_;
};

}  // namespace godwit::tracee
