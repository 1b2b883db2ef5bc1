#include "engine/images/record_file.h"

#include <google/protobuf/message_lite.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "engine/base/bytes.h"
#include "engine/base/units.h"
#include "engine/images/limits.h"

namespace godwit::images {
namespace {

// Small images are read in one call; larger ones and payloads in pieces of this size.
constexpr size_t kWindowBytes = 256 * kKiB;

std::string magic_text(uint32_t magic) {
  auto kind = kind_of_magic(magic);
  if (kind) return fmt::format("0x{:08x} ({})", magic, image_kind(*kind).name);
  return fmt::format("0x{:08x}", magic);
}

}  // namespace

RecordWriter::RecordWriter(Fd fd, Kind kind, std::string name, std::shared_ptr<CreatedFile> created)
    : fd_(std::move(fd)), name_(std::move(name)), created_(std::move(created)) {
  const ImageKind& row = image_kind(kind);
  if (row.first_magic != 0) append(bytes_of(row.first_magic));
  if (row.magic != 0) append(bytes_of(row.magic));
}

void RecordWriter::write(const google::protobuf::MessageLite& message) {
  if (!message.IsInitialized()) {
    throw Error("{}: a {} lacks {}", name_, message.GetTypeName(), message.InitializationErrorString());
  }
  size_t size = message.ByteSizeLong();
  if (size > kMaxRecordBytes)
    throw Error("{}: a {} of {} bytes is too large", name_, message.GetTypeName(), size);
  append(bytes_of(static_cast<uint32_t>(size)));
  size_t start = buffer_.size();
  buffer_.resize(start + size);
  message.SerializeWithCachedSizesToArray(reinterpret_cast<uint8_t*>(buffer_.data() + start));
  if (buffer_.size() >= kWindowBytes) flush();
}

void RecordWriter::write_payload(std::span<const std::byte> bytes) {
  if (bytes.size() < kWindowBytes) {
    append(bytes);
    return;
  }
  flush();
  write_all(fd_.get(), bytes, name_.c_str());
}

void RecordWriter::finish() {
  flush();
  fd_.reset();
  if (created_) created_->finished = true;
}

int RecordWriter::payload_fd() {
  flush();
  return fd_.get();
}

void RecordWriter::append(std::span<const std::byte> bytes) {
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  if (buffer_.size() >= kWindowBytes) flush();
}

void RecordWriter::flush() {
  write_all(fd_.get(), buffer_, name_.c_str());
  buffer_.clear();
}

RecordReader::RecordReader(Fd fd, Kind kind, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {
  struct stat status;
  check(::fstat(fd_.get(), &status), "fstat({})", name_);
  if (!S_ISREG(status.st_mode)) throw FormatError("{}: not a regular file", name_);
  file_size_ = static_cast<uint64_t>(status.st_size);
  check_magic(kind);
}

void RecordReader::check_magic(Kind kind) {
  const ImageKind& row = image_kind(kind);
  std::array<uint32_t, 2> numbers{};
  size_t wanted = row.first_magic != 0 ? 2 : 1;
  for (size_t i = 0; i < wanted; ++i) {
    if (remaining() < sizeof(uint32_t)) throw FormatError("{}: too short for its magic number", name_);
    std::memcpy(&numbers[i], take(sizeof(uint32_t)).data(), sizeof(uint32_t));
    if (numbers[i] == row.magic) return;  // after the first number, or alone in version 1
    if (i + 1 == wanted || numbers[i] != row.first_magic) {
      throw FormatError("{}: magic number {} is not that of {} ({})", name_, magic_text(numbers[i]), row.name,
                        magic_text(i + 1 == wanted ? row.magic : row.first_magic));
    }
  }
}

bool RecordReader::next(google::protobuf::MessageLite& message) {
  if (remaining() == 0) return false;
  ++records_;
  if (remaining() < sizeof(uint32_t)) fail("the file ends in its length");
  uint32_t size = 0;
  std::memcpy(&size, take(sizeof size).data(), sizeof size);
  if (size > kMaxRecordBytes) fail(fmt::format("a length of {} bytes is over the limit", size));
  if (size > remaining()) fail(fmt::format("the file ends: {} of {} bytes are there", remaining(), size));
  std::span<const std::byte> bytes = take(size);
  message.Clear();
  if (!message.ParsePartialFromArray(bytes.data(), static_cast<int>(size))) {
    fail(fmt::format("not a valid {}", message.GetTypeName()));
  }
  if (!message.IsInitialized()) {
    fail(fmt::format("{} lacks {}", message.GetTypeName(), message.InitializationErrorString()));
  }
  return true;
}

std::vector<std::byte> RecordReader::read_payload(uint64_t size) {
  if (size > kMaxPayloadBytes) fail(fmt::format("a payload of {} bytes is over the limit", size));
  if (size > remaining())
    fail(fmt::format("the file ends in its payload: {} of {} bytes are there", remaining(), size));
  std::vector<std::byte> bytes(size);
  read_payload(bytes);
  return bytes;
}

void RecordReader::read_payload(std::span<std::byte> bytes) {
  if (bytes.size() > remaining()) {
    fail(fmt::format("the file ends in its payload: {} of {} bytes are there", remaining(), bytes.size()));
  }
  while (!bytes.empty()) {
    std::span<const std::byte> piece = take(std::min(bytes.size(), kWindowBytes));
    std::memcpy(bytes.data(), piece.data(), piece.size());
    bytes = bytes.subspan(piece.size());
  }
}

void RecordReader::skip_payload(uint64_t size) {
  if (size > remaining())
    fail(fmt::format("the file ends in its payload: {} of {} bytes are there", remaining(), size));
  if (size <= window_.size() - position_) {
    position_ += size;
    return;
  }
  window_offset_ = offset() + size;
  window_.clear();
  position_ = 0;
}

void RecordReader::fail(const std::string& text) const {
  if (records_ == 0) throw FormatError("{}: {}", name_, text);
  throw FormatError("{}: record {}: {}", name_, records_, text);
}

void RecordReader::fail_missing() const {
  throw FormatError("{}: the file ends where record {} should be", name_, records_ + 1);
}

std::span<const std::byte> RecordReader::take(uint64_t size) {
  if (window_.size() - position_ < size) {
    window_offset_ += position_;
    window_.erase(window_.begin(), window_.begin() + static_cast<ptrdiff_t>(position_));
    position_ = 0;
    size_t kept = window_.size();
    uint64_t wanted = std::min(std::max(size, uint64_t{kWindowBytes}), file_size_ - window_offset_);
    window_.resize(wanted);
    pread_exactly(fd_.get(), std::span(window_).subspan(kept), static_cast<off_t>(window_offset_ + kept),
                  name_.c_str());
  }
  std::span<const std::byte> bytes(window_.data() + position_, size);
  position_ += size;
  return bytes;
}

}  // namespace godwit::images
