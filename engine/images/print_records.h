#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace google::protobuf {
class Message;
}

// The two notations of print.h, which hands them the records of one file.
namespace godwit::images {

// Something that follows a record.
struct PrintedPayload {
  std::string name;  // "inq"; empty if the record has only this one
  std::shared_ptr<google::protobuf::Message>
      message;  // a record in front of it (message queues); mostly none
  uint64_t size = 0;
  std::optional<std::vector<std::byte>> bytes;  // only if contents were asked for
  bool is_numbers = false;                      // 16-bit values, not text
};

class RecordPrinter {
 public:
  RecordPrinter() = default;
  RecordPrinter(const RecordPrinter&) = delete;
  RecordPrinter& operator=(const RecordPrinter&) = delete;
  virtual ~RecordPrinter() = default;
  virtual void begin(std::string_view magic_name) = 0;
  virtual void record(const google::protobuf::Message& message,
                      const std::vector<PrintedPayload>& payloads) = 0;
  virtual void end() = 0;
};

std::unique_ptr<RecordPrinter> make_text_printer(std::ostream& out);
std::unique_ptr<RecordPrinter> make_json_printer(std::ostream& out);

// A string as JSON.
std::string json_quoted(const std::string& text);
// Lines of offset and 16 bytes in hexadecimal, beginning at `offset`.
void print_hex(std::ostream& out, const std::vector<std::byte>& bytes, uint64_t offset);

}  // namespace godwit::images
