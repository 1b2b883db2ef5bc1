#include "engine/tracee/batch_image.h"

#include <cstring>

#include "engine/base/error.h"

namespace godwit::tracee {
namespace {

constexpr uint64_t kDataAlign = 64;  // the strictest that a kernel structure asks for

uint64_t descriptor_bytes(uint64_t count) {
  return (count * sizeof(StubDescriptor) + kDataAlign - 1) / kDataAlign * kDataAlign;
}

}  // namespace

uint64_t BatchImage::size_of(const Batch& batch) {
  return descriptor_bytes(batch.calls_.size()) + batch.data_.size();
}

BatchImage::BatchImage(const Batch& batch, RemoteAddress place)
    : place_(place), data_(batch.data_), returned_(batch.returned_) {
  descriptors_.resize(batch.calls_.size());
  for (size_t i = 0; i < descriptors_.size(); ++i) descriptors_[i] = encode(batch.calls_[i]);
  for (const Batch::Patch& patch : batch.patches_) {
    uint64_t address = (data_place() + patch.target).value;
    std::memcpy(data_.data() + patch.where, &address, sizeof address);
  }
}

RemoteAddress BatchImage::data_place() const {
  return place_ + descriptor_bytes(descriptors_.size());
}

StubDescriptor BatchImage::encode(const Batch::Call& call) const {
  StubDescriptor descriptor{
      .nr = static_cast<uint64_t>(call.nr), .arguments = {}, .result = kStubNotRun, .flags = call.flags};
  for (size_t k = 0; k < std::size(call.arguments); ++k) {
    const Batch::Argument& argument = call.arguments[k];
    uint64_t& value = descriptor.arguments[k];
    switch (argument.kind_) {
      case Batch::Argument::Kind::kValue:
        value = argument.value_;
        break;
      case Batch::Argument::Kind::kData:
        value = (data_place() + argument.value_).value;
        break;
      case Batch::Argument::Kind::kResult:
        value = (place_ + argument.value_ * sizeof(StubDescriptor)).value + offsetof(StubDescriptor, result);
        descriptor.flags |= kStubIndirect << k;
        break;
    }
  }
  return descriptor;
}

void BatchImage::write(const RemoteMemory& memory) const {
  uint64_t head = descriptor_bytes(descriptors_.size());
  std::vector<std::byte> image(head + data_.size());
  std::memcpy(image.data(), descriptors_.data(), descriptors_.size() * sizeof(StubDescriptor));
  if (!data_.empty()) std::memcpy(image.data() + head, data_.data(), data_.size());
  memory.write(place_, image);
}

BatchResults BatchImage::read(const RemoteMemory& memory) const {
  BatchResults results;
  results.pid_ = memory.pid();
  results.descriptors_ = descriptors_;
  results.data_ = data_;
  std::vector<RemoteRange> ranges{{place_, descriptors_.size() * sizeof(StubDescriptor)}};
  uint64_t total = ranges[0].size;
  for (const Batch::Data& data : returned_) {
    ranges.push_back({data_place() + data.offset_, data.size_});
    total += data.size_;
  }
  std::vector<std::byte> bytes(total);
  memory.read_ranges(ranges, bytes);
  const std::byte* from = bytes.data();
  std::memcpy(results.descriptors_.data(), from, ranges[0].size);
  from += ranges[0].size;
  for (const Batch::Data& data : returned_) {
    std::memcpy(results.data_.data() + data.offset_, from, data.size_);
    from += data.size_;
  }
  return results;
}

}  // namespace godwit::tracee
