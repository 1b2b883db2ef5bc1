#include "engine/images/print.h"

#include <fcntl.h>
#include <google/protobuf/message.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <ostream>
#include <sstream>
#include <vector>

#include "engine/base/bytes.h"
#include "engine/base/units.h"
#include "engine/images/print_records.h"
#include "engine/images/record_file.h"
#include "engine/images/record_types.h"
#include "proto/images/file_data.pb.h"
#include "proto/images/namespaces.pb.h"
#include "proto/images/pagemap.pb.h"
#include "proto/images/sockets.pb.h"

namespace godwit::images {
namespace {

using google::protobuf::Message;

std::string base_name(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

// What a file holds: by its name if that is of a raw kind, as raw files have no magic number, else by its
// magic number.
Kind identify(int fd, const std::string& path) {
  std::optional<Kind> by_name = kind_of_file_name(base_name(path));
  if (by_name && image_kind(*by_name).payload == Payload::kRaw) return *by_name;
  std::array<uint32_t, 2> numbers{};
  size_t size = read_up_to(fd, writable_bytes_of(numbers), path.c_str());
  bool has_first = numbers[0] == kCommonMagic || numbers[0] == kServiceMagic;
  uint32_t magic = has_first ? numbers[1] : numbers[0];
  std::optional<Kind> by_magic = kind_of_magic(magic);
  if (size < (has_first ? 2 : 1) * sizeof(uint32_t) || !by_magic) {
    throw FormatError("{}: not an image: no known magic number", path);
  }
  // Of kinds that share a number, the name knows which.
  return by_name && image_kind(*by_name).magic == magic ? *by_name : *by_magic;
}

// Reads the records of one file with what follows each, and hands them to a printer.
class RecordWalk {
 public:
  RecordWalk(RecordReader reader, Kind kind, RecordPrinter& printer, bool contents)
      : reader_(std::move(reader)), kind_(kind), printer_(printer), contents_(contents) {}

  void run() {
    std::unique_ptr<Message> record(record_prototype(kind_)->New());
    bool is_pagemap = kind_ == Kind::kPagemap || kind_ == Kind::kShmemPagemap;
    while (reader_.next(*record)) {
      printer_.record(*record, payloads_of(*record));
      if (is_pagemap && reader_.records() == 1) record = std::make_unique<pb::pagemap_entry>();
      if (kind_ == Kind::kGhostFile && reader_.remaining() != 0)
        record = std::make_unique<pb::ghost_chunk_entry>();
    }
  }

 private:
  std::vector<PrintedPayload> payloads_of(const Message& record) {
    switch (image_kind(kind_).payload) {
      case Payload::kBytes:
      case Payload::kPadded:
        return sized(record);
      case Payload::kMessages:
        return messages(dynamic_cast<const pb::ipc_msg_entry&>(record));
      case Payload::kGhost:
        return ghost(record);
      default:
        return {};
    }
  }

  std::vector<PrintedPayload> sized(const Message& record) {
    if (const auto* stream = dynamic_cast<const pb::tcp_stream_entry*>(&record)) {
      std::vector<PrintedPayload> queues;
      queues.push_back(take("inq", stream->inq_len()));
      queues.push_back(take("outq", stream->outq_len()));
      return queues;
    }
    PayloadSize size = payload_size(kind_, record);
    std::vector<PrintedPayload> one;
    one.push_back(take("", size.bytes));
    one.back().is_numbers = kind_ == Kind::kIpcnsSem;
    reader_.skip_payload(size.padding);
    return one;
  }

  std::vector<PrintedPayload> messages(const pb::ipc_msg_entry& queue) {
    std::vector<PrintedPayload> all;
    for (uint32_t i = 0; i < queue.qnum(); ++i) {
      auto message = std::make_shared<pb::ipc_msg>(reader_.read_one<pb::ipc_msg>());
      all.push_back(take("", message->msize()));
      reader_.skip_payload((sizeof(uint64_t) - message->msize() % sizeof(uint64_t)) % sizeof(uint64_t));
      all.back().message = std::move(message);
    }
    return all;
  }

  std::vector<PrintedPayload> ghost(const Message& record) {
    std::vector<PrintedPayload> one;
    if (const auto* chunk = dynamic_cast<const pb::ghost_chunk_entry*>(&record)) {
      one.push_back(take("", chunk->len()));
    } else if (!dynamic_cast<const pb::ghost_file_entry&>(record).chunks()) {
      one.push_back(take("", reader_.remaining()));
    }
    return one;
  }

  PrintedPayload take(std::string name, uint64_t size) {
    PrintedPayload payload;
    payload.name = std::move(name);
    payload.size = size;
    if (contents_) {
      payload.bytes = reader_.read_payload(size);
    } else {
      reader_.skip_payload(size);
    }
    return payload;
  }

  RecordReader reader_;
  Kind kind_;
  RecordPrinter& printer_;
  bool contents_;
};

void print_raw(std::ostream& out, const Fd& file, const std::string& path, PrintFormat format,
               bool contents) {
  struct stat status;
  check(::fstat(file.get(), &status), "fstat({})", path);
  if (format == PrintFormat::kJson) {
    out << "{\"raw\": " << json_quoted(base_name(path)) << ", \"bytes\": " << status.st_size << "}\n";
    return;
  }
  out << "raw, " << status.st_size << " bytes\n";
  if (!contents) return;
  std::vector<std::byte> piece(64 * kKiB);
  for (uint64_t offset = 0;; offset += piece.size()) {
    piece.resize(read_up_to(file.get(), piece, path.c_str()));
    if (piece.empty()) return;
    print_hex(out, piece, offset);
  }
}

void print_file(std::ostream& out, Fd file, const std::string& path, PrintFormat format, bool contents) {
  Kind kind = identify(file.get(), path);
  if (image_kind(kind).payload == Payload::kRaw) {
    print_raw(out, file, path, format, contents);
    return;
  }
  auto printer = format == PrintFormat::kJson ? make_json_printer(out) : make_text_printer(out);
  RecordReader reader(std::move(file), kind, path);
  // crit knows a magic number by one name, whatever kinds share it.
  printer->begin(image_kind(*kind_of_magic(image_kind(kind).magic)).name);
  RecordWalk(std::move(reader), kind, *printer, contents).run();
  printer->end();
}

Fd open_image(const std::string& path) {
  Fd file = open_at(AT_FDCWD, path, O_RDONLY | O_NONBLOCK);
  struct stat status;
  check(::fstat(file.get(), &status), "fstat({})", path);
  if (!S_ISREG(status.st_mode)) throw FormatError("{}: not a regular file", path);
  return file;
}

// Names of the image files of a directory, sorted.
std::vector<std::string> image_names(const std::string& path) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    std::string name = entry.path().filename().string();
    if (kind_of_file_name(name)) names.push_back(std::move(name));
  }
  if (error) throw SystemError(error.value(), "{}", path);
  std::sort(names.begin(), names.end());
  return names;
}

// One file of a directory; false if it is damaged, whose error then takes its place.
bool print_member(std::ostream& out, const std::string& path, PrintFormat format, bool contents) {
  std::ostringstream text;
  try {
    print_file(text, open_image(path), path, format, contents);
    out << text.str();
    return true;
  } catch (const Error& error) {
    if (format == PrintFormat::kJson) {
      out << "{\"error\": " << json_quoted(error.what()) << "}\n";
    } else {
      out << text.str() << "error: " << error.what() << "\n";
    }
    return false;
  }
}

}  // namespace

void print_image(std::ostream& out, const std::string& path, PrintFormat format, bool contents) {
  print_file(out, open_image(path), path, format, contents);
}

bool print_directory(std::ostream& out, const std::string& path, PrintFormat format, bool contents) {
  bool json = format == PrintFormat::kJson, whole = true, first = true;
  if (json) out << "{";
  for (const std::string& name : image_names(path)) {
    if (json) {
      out << (first ? "\n" : ",\n") << json_quoted(name) << ": ";
    } else {
      out << (first ? "" : "\n") << name << ": ";
    }
    first = false;
    whole &= print_member(out, fmt::format("{}/{}", path, name), format, contents);
  }
  if (json) out << "}\n";
  return whole;
}

}  // namespace godwit::images
