#include <google/protobuf/message.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <ostream>

#include "engine/images/print_records.h"

// JSON as crit prints it: names of enumerators, integers in decimal, bytes and payloads in base64 lines.
namespace godwit::images {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using Json = nlohmann::ordered_json;

// Python's base64.encodebytes, which crit uses: a line feed after every 57 bytes and at the end.
std::string base64_lines(std::string_view bytes) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  constexpr size_t kLineBytes = 57;
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    if (i != 0 && i % kLineBytes == 0) text += '\n';
    size_t count = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k)
      group = group << 8 | (k < count ? static_cast<unsigned char>(bytes[i + k]) : 0);
    for (size_t k = 0; k < 4; ++k) text += k <= count ? kDigits[group >> (18 - 6 * k) & 63] : '=';
  }
  if (!text.empty()) text += '\n';
  return text;
}

std::string_view as_text(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Json to_json(const Message& message);

// Element `i` of a field; -1: of a field that is not repeated.
Json element(const Message& message, const Reflection& reflection, const FieldDescriptor& field, int i) {
  bool one = i < 0;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return one ? reflection.GetInt32(message, &field) : reflection.GetRepeatedInt32(message, &field, i);
    case FieldDescriptor::CPPTYPE_INT64:
      return one ? reflection.GetInt64(message, &field) : reflection.GetRepeatedInt64(message, &field, i);
    case FieldDescriptor::CPPTYPE_UINT32:
      return one ? reflection.GetUInt32(message, &field) : reflection.GetRepeatedUInt32(message, &field, i);
    case FieldDescriptor::CPPTYPE_UINT64:
      return one ? reflection.GetUInt64(message, &field) : reflection.GetRepeatedUInt64(message, &field, i);
    case FieldDescriptor::CPPTYPE_BOOL:
      return one ? reflection.GetBool(message, &field) : reflection.GetRepeatedBool(message, &field, i);
    case FieldDescriptor::CPPTYPE_ENUM:
      return (one ? reflection.GetEnum(message, &field) : reflection.GetRepeatedEnum(message, &field, i))
          ->name();
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return to_json(one ? reflection.GetMessage(message, &field)
                         : reflection.GetRepeatedMessage(message, &field, i));
    default: {
      std::string text =
          one ? reflection.GetString(message, &field) : reflection.GetRepeatedString(message, &field, i);
      return field.type() == FieldDescriptor::TYPE_BYTES ? base64_lines(text) : text;
    }
  }
}

Json to_json(const Message& message) {
  const Reflection& reflection = *message.GetReflection();
  std::vector<const FieldDescriptor*> fields;
  reflection.ListFields(message, &fields);
  Json object = Json::object();
  for (const FieldDescriptor* field : fields) {
    if (!field->is_repeated()) {
      object[field->name()] = element(message, reflection, *field, -1);
      continue;
    }
    Json list = Json::array();
    for (int i = 0; i < reflection.FieldSize(message, field); ++i) {
      list.push_back(element(message, reflection, *field, i));
    }
    object[field->name()] = std::move(list);
  }
  return object;
}

Json payload_to_json(const PrintedPayload& payload) {
  if (!payload.bytes) return "... <" + std::to_string(payload.size) + "B>";
  if (!payload.is_numbers) return base64_lines(as_text(*payload.bytes));
  Json numbers = Json::array();
  for (size_t i = 0; i + sizeof(uint16_t) <= payload.bytes->size(); i += sizeof(uint16_t)) {
    uint16_t number;
    std::memcpy(&number, payload.bytes->data() + i, sizeof number);
    numbers.push_back(number);
  }
  return numbers;
}

// One payload as a value; named ones as an object; those with records in front as a list of both in turn.
Json payloads_to_json(const std::vector<PrintedPayload>& payloads) {
  if (payloads.size() == 1 && payloads[0].name.empty() && !payloads[0].message)
    return payload_to_json(payloads[0]);
  if (payloads[0].message) {
    Json list = Json::array();
    for (const PrintedPayload& payload : payloads) {
      list.push_back(to_json(*payload.message));
      list.push_back(payload_to_json(payload));
    }
    return list;
  }
  Json object = Json::object();
  for (const PrintedPayload& payload : payloads) object[payload.name] = payload_to_json(payload);
  return object;
}

// Names and paths are bytes to the kernel; what is not UTF-8 in them is replaced.
std::string dumped(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

class JsonPrinter final : public RecordPrinter {
 public:
  explicit JsonPrinter(std::ostream& out) : out_(out) {}
  void begin(std::string_view magic_name) override {
    out_ << "{\"magic\": \"" << magic_name << "\", \"entries\": [";
    first_ = true;
  }
  void record(const Message& message, const std::vector<PrintedPayload>& payloads) override {
    Json entry = to_json(message);
    if (!payloads.empty()) entry["extra"] = payloads_to_json(payloads);
    out_ << (first_ ? "\n" : ",\n") << dumped(entry);
    first_ = false;
  }
  void end() override { out_ << "\n]}\n"; }

 private:
  std::ostream& out_;
  bool first_ = true;
};

}  // namespace

std::unique_ptr<RecordPrinter> make_json_printer(std::ostream& out) {
  return std::make_unique<JsonPrinter>(out);
}

std::string json_quoted(const std::string& text) {
  return dumped(text);
}

}  // namespace godwit::images
