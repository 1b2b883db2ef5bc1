#include "engine/tracee/batch.h"

#include <cerrno>

#include "engine/base/error.h"

namespace godwit::tracee {
namespace {

constexpr int64_t kHighestErrno = 4095;
constexpr long kNoNumber = -1;

}  // namespace

Batch::Data Batch::place(size_t size, size_t align, bool returned) {
  size_t offset = (data_.size() + align - 1) / align * align;
  data_.resize(offset + size);
  Data data(offset, size, returned);
  if (returned) returned_.push_back(data);
  return data;
}

Batch::Data Batch::put(std::span<const std::byte> bytes, size_t align) {
  Data data = place(bytes.size(), align, false);
  std::memcpy(data_.data() + data.offset_, bytes.data(), bytes.size());
  return data;
}

Batch::Data Batch::put_string(std::string_view text) {
  Data data = place(text.size() + 1, 1, false);
  std::memcpy(data_.data() + data.offset_, text.data(), text.size());
  return data;
}

Batch::Data Batch::reserve(size_t size, size_t align) {
  return place(size, align, true);
}

Batch::Data Batch::put_in_out(std::span<const std::byte> bytes, size_t align) {
  Data data = place(bytes.size(), align, true);
  std::memcpy(data_.data() + data.offset_, bytes.data(), bytes.size());
  return data;
}

void Batch::patch(Data where, uint64_t offset, Data target) {
  if (offset > where.size_ || where.size_ - offset < sizeof(uint64_t)) {
    throw Error("a batch: an address at byte {} of {} bytes of data", offset, where.size_);
  }
  patches_.push_back({where.offset_ + offset, target.offset_});
}

Batch::Result Batch::call(long nr, std::span<const Argument> arguments, OnFailure on_failure) {
  if (arguments.size() > std::size(Call{}.arguments)) {
    throw Error("a batch: system call {} with {} arguments", nr, arguments.size());
  }
  Call& call = calls_.emplace_back();
  call.nr = nr;
  call.flags = kStubKeepResult | (on_failure == OnFailure::kStop ? kStubStopOnFailure : 0);
  std::copy(arguments.begin(), arguments.end(), call.arguments);
  return Result(static_cast<uint32_t>(calls_.size() - 1));
}

void Batch::store(Result result, Data where, uint64_t offset, uint64_t flag, uint64_t width) {
  if (offset > where.size_ || where.size_ - offset < width) {
    throw Error("a batch: a result at byte {} of {} bytes of data", offset, where.size_);
  }
  Call& step = calls_.emplace_back();
  step.nr = kNoNumber;
  step.flags = kStubNoCall | flag;
  step.arguments[0] = result;
  step.arguments[1] = where.at(offset);
}

void Batch::store32(Result result, Data where, uint64_t offset) {
  store(result, where, offset, kStubStore32, sizeof(uint32_t));
}

void Batch::store64(Result result, Data where, uint64_t offset) {
  store(result, where, offset, kStubStore64, sizeof(uint64_t));
}

int64_t BatchResults::value(Batch::Result result) const {
  return descriptors_.at(result.index_).result;
}

bool BatchResults::was_run(Batch::Result result) const {
  return value(result) != kStubNotRun;
}

bool BatchResults::ok(Batch::Result result) const {
  int64_t raw = value(result);
  return raw != kStubNotRun && (raw >= 0 || raw < -kHighestErrno);
}

void BatchResults::throw_failure(Batch::Result result, const std::string& what) const {
  if (!was_run(result)) {
    check_all("an earlier call of the batch");
    throw Error("pid {}: {}: not reached", pid_, what);
  }
  throw SystemError(static_cast<int>(-value(result)), "pid {}: {}", pid_, what);
}

const StubDescriptor* BatchResults::stopping_call() const {
  for (const StubDescriptor& call : descriptors_) {
    bool failed = call.result < 0 && call.result >= -kHighestErrno;
    if (failed && (call.flags & kStubStopOnFailure) != 0) return &call;
  }
  return nullptr;
}

bool BatchResults::stopped_early() const {
  return stopping_call() != nullptr;
}

void BatchResults::check_all(std::string_view what) const {
  const StubDescriptor* call = stopping_call();
  if (call == nullptr) return;
  throw SystemError(static_cast<int>(-call->result), "pid {}: {}: call {} of {} (system call {})", pid_, what,
                    call - descriptors_.data() + 1, descriptors_.size(), call->nr);
}

const std::byte* BatchResults::checked(Batch::Data data, uint64_t offset, uint64_t size) const {
  if (!data.returned_) throw Error("pid {}: this data of the batch was not to be read back", pid_);
  if (offset > data.size_ || data.size_ - offset < size) {
    throw Error("pid {}: {} bytes at byte {} of {} bytes of a batch's data", pid_, size, offset, data.size_);
  }
  return data_.data() + data.offset_ + offset;
}

std::span<const std::byte> BatchResults::bytes(Batch::Data data) const {
  return {checked(data, 0, data.size_), data.size_};
}

}  // namespace godwit::tracee
