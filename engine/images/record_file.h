#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/fd.h"
#include "engine/images/image_kinds.h"

namespace google::protobuf {
class MessageLite;
}

// Image files of records: magic numbers, then records of a 32-bit little-endian length and a protobuf
// message, after some kinds with a payload of raw bytes behind each.
namespace godwit::images {

// What an ImageDirectory remembers of a file that it made.
struct CreatedFile {
  std::string name;
  bool finished = false;
};

// Writes one image file through a buffer. Errors name the file.
class RecordWriter {
 public:
  // `fd` is an empty file open for writing; the magic numbers of `kind` go first. `name` is for errors.
  // `created` (may be null) is marked when the file is finished.
  RecordWriter(Fd fd, Kind kind, std::string name, std::shared_ptr<CreatedFile> created = nullptr);
  RecordWriter(RecordWriter&&) noexcept = default;
  RecordWriter& operator=(RecordWriter&&) noexcept = default;

  // Appends a record. Throws Error if a required field is not set or the record is over kMaxRecordBytes.
  void write(const google::protobuf::MessageLite& message);
  // Appends raw bytes; the caller has written the record that says how many.
  void write_payload(std::span<const std::byte> bytes);
  // Writes what is buffered and closes the file. A file that was not finished is incomplete, and the
  // directory's write_inventory refuses it.
  void finish();

  // Flushes and gives the descriptor for a payload that is better copied in the kernel (sendfile, splice);
  // its position is the end of the file, and must be again when the next record is written.
  int payload_fd();
  const std::string& name() const { return name_; }

 private:
  void append(std::span<const std::byte> bytes);
  void flush();

  Fd fd_;
  std::string name_;
  std::shared_ptr<CreatedFile> created_;
  std::vector<std::byte> buffer_;
};

// Reads one image file from start to end. All errors about its contents are FormatErrors that name the file,
// the record by number (from 1) and what is wrong with it.
class RecordReader {
 public:
  // Checks the magic numbers. Accepts files of image version 1, which have only the kind's own.
  RecordReader(Fd fd, Kind kind, std::string name);
  RecordReader(RecordReader&&) noexcept = default;
  RecordReader& operator=(RecordReader&&) noexcept = default;

  // The next record; false at the end of the file.
  bool next(google::protobuf::MessageLite& message);
  template <class Message>
  std::optional<Message> next() {
    std::optional<Message> message(std::in_place);
    if (!next(*message)) message.reset();
    return message;
  }
  // The next record, which must be there.
  template <class Message>
  Message read_one() {
    Message message;
    if (!next(message)) fail_missing();
    return message;
  }
  // All records that are left; for kinds without payloads.
  template <class Message>
  std::vector<Message> read_all() {
    std::vector<Message> messages;
    for (Message message; next(message);) messages.push_back(std::move(message));
    return messages;
  }

  // The next `size` raw bytes, which must be there; at most kMaxPayloadBytes.
  std::vector<std::byte> read_payload(uint64_t size);
  void read_payload(std::span<std::byte> bytes);
  void skip_payload(uint64_t size);

  // Position of the next unread byte, and how many follow it. With fd(), for payloads that are copied in the
  // kernel (the descriptor's own position is not to be used); skip_payload then passes over them.
  uint64_t offset() const { return window_offset_ + position_; }
  uint64_t remaining() const { return file_size_ - offset(); }
  int fd() const { return fd_.get(); }
  const std::string& name() const { return name_; }
  // How many records were read so far.
  uint64_t records() const { return records_; }

  // Throws FormatError about the record that was read last: "NAME: record 3: TEXT".
  [[noreturn]] void fail(const std::string& text) const;

 private:
  void check_magic(Kind kind);
  // Makes the next `size` bytes available in one piece and passes over them; they must not exceed
  // remaining().
  std::span<const std::byte> take(uint64_t size);
  [[noreturn]] void fail_missing() const;

  Fd fd_;
  std::string name_;
  uint64_t file_size_ = 0;
  uint64_t records_ = 0;
  // A window of the file: bytes [window_offset_, + window_.size()), of which position_ were passed.
  std::vector<std::byte> window_;
  uint64_t window_offset_ = 0;
  size_t position_ = 0;
};

}  // namespace godwit::images
