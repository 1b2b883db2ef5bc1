#include <fmt/format.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <array>
#include <ostream>
#include <span>
#include <string>

#include "engine/images/pagemap.h"
#include "engine/images/print_records.h"

namespace godwit::images {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

constexpr size_t kLineWidth = 110;
constexpr size_t kShownBytes = 32;

// Numbers that are addresses, masks or device numbers.
bool reads_better_in_hex(const FieldDescriptor& field) {
  constexpr auto kNames =
      std::to_array<std::string_view>({"start",          "end",      "vaddr",      "address",
                                       "clear_tid_addr", "ss_sp",    "futex_rla",  "rseq_abi_pointer",
                                       "sigaction",      "restorer", "mask",       "flags",
                                       "prot",           "status",   "madv",       "dev",
                                       "s_dev",          "rdev",     "blk_sigset", "blk_sigset_extended",
                                       "personality",    "fdflags",  "xstate_bv",  "sigmask"});
  const std::string& name = field.name();
  if (field.cpp_type() != FieldDescriptor::CPPTYPE_UINT32 &&
      field.cpp_type() != FieldDescriptor::CPPTYPE_UINT64) {
    return false;
  }
  if (std::find(kNames.begin(), kNames.end(), name) != kNames.end()) return true;
  if (name.starts_with("mm_") || name.starts_with("cap_")) return true;
  return field.containing_type()->name().find("regs_entry") != std::string::npos;
}

std::string number_text(const FieldDescriptor& field, uint64_t value) {
  if (field.full_name() == "godwit.pb.pagemap_entry.flags")
    return page_flags_text(static_cast<uint32_t>(value));
  return reads_better_in_hex(field) ? fmt::format("0x{:x}", value) : fmt::format("{}", value);
}

std::string quoted(std::string_view text) {
  std::string result = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      result += {'\\', c};
    } else if (static_cast<unsigned char>(c) < ' ' || c == '\x7f') {
      result += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    } else {
      result += c;
    }
  }
  return result + "\"";
}

std::string bytes_text(std::string_view bytes) {
  std::string result = fmt::format("<{} bytes", bytes.size());
  if (!bytes.empty()) result += ':';
  for (char c : bytes.substr(0, kShownBytes)) result += fmt::format(" {:02x}", static_cast<unsigned char>(c));
  return result + (bytes.size() > kShownBytes ? " ...>" : ">");
}

// A scalar element of a field; -1: of a field that is not repeated.
std::string scalar(const Message& message, const Reflection& reflection, const FieldDescriptor& field,
                   int i) {
  bool one = i < 0;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return fmt::to_string(one ? reflection.GetInt32(message, &field)
                                : reflection.GetRepeatedInt32(message, &field, i));
    case FieldDescriptor::CPPTYPE_INT64:
      return fmt::to_string(one ? reflection.GetInt64(message, &field)
                                : reflection.GetRepeatedInt64(message, &field, i));
    case FieldDescriptor::CPPTYPE_UINT32:
      return number_text(field, one ? reflection.GetUInt32(message, &field)
                                    : reflection.GetRepeatedUInt32(message, &field, i));
    case FieldDescriptor::CPPTYPE_UINT64:
      return number_text(field, one ? reflection.GetUInt64(message, &field)
                                    : reflection.GetRepeatedUInt64(message, &field, i));
    case FieldDescriptor::CPPTYPE_BOOL:
      return (one ? reflection.GetBool(message, &field) : reflection.GetRepeatedBool(message, &field, i))
                 ? "true"
                 : "false";
    case FieldDescriptor::CPPTYPE_ENUM:
      return (one ? reflection.GetEnum(message, &field) : reflection.GetRepeatedEnum(message, &field, i))
          ->name();
    default: {
      std::string text =
          one ? reflection.GetString(message, &field) : reflection.GetRepeatedString(message, &field, i);
      return field.type() == FieldDescriptor::TYPE_BYTES ? bytes_text(text) : quoted(text);
    }
  }
}

std::string braces(const Message& message, size_t indent);

// "name: value", "name: [1, 2]", "name {...}"; several of the last for a repeated message. Inner lines are
// indented.
void field_lines(const Message& message, const FieldDescriptor& field, size_t indent,
                 std::vector<std::string>& lines) {
  const Reflection& reflection = *message.GetReflection();
  int count = field.is_repeated() ? reflection.FieldSize(message, &field) : 1;
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
    for (int i = 0; i < count; ++i) {
      const Message& inner = field.is_repeated() ? reflection.GetRepeatedMessage(message, &field, i)
                                                 : reflection.GetMessage(message, &field);
      lines.push_back(field.name() + " " + braces(inner, indent));
    }
  } else if (field.is_repeated()) {
    std::string list;
    for (int i = 0; i < count; ++i) list += (i == 0 ? "" : ", ") + scalar(message, reflection, field, i);
    lines.push_back(fmt::format("{}: [{}]", field.name(), list));
  } else {
    lines.push_back(field.name() + ": " + scalar(message, reflection, field, -1));
  }
}

// "{a: 1, b: 2}" if that fits a line, else a field to a line.
std::string braces(const Message& message, size_t indent) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  std::vector<std::string> lines;
  for (const FieldDescriptor* field : fields) field_lines(message, *field, indent + 2, lines);
  size_t width = indent + 2;
  bool has_breaks = false;
  for (const std::string& line : lines) {
    width += line.size() + 2;
    has_breaks |= line.find('\n') != std::string::npos;
  }
  if (!has_breaks && width <= kLineWidth) return fmt::format("{{{}}}", fmt::join(lines, ", "));
  std::string text = "{\n";
  for (const std::string& line : lines) text += std::string(indent + 2, ' ') + line + "\n";
  return text + std::string(indent, ' ') + "}";
}

class TextPrinter final : public RecordPrinter {
 public:
  explicit TextPrinter(std::ostream& out) : out_(out) {}
  void begin(std::string_view magic_name) override { out_ << magic_name << "\n"; }
  void record(const Message& message, const std::vector<PrintedPayload>& payloads) override {
    out_ << braces(message, 0) << "\n";
    for (const PrintedPayload& payload : payloads) {
      if (payload.message) out_ << "  " << braces(*payload.message, 2) << "\n";
      out_ << "  " << (payload.name.empty() ? "" : payload.name + ": ") << "<" << payload.size << " bytes>\n";
      if (payload.bytes) print_hex(out_, *payload.bytes, 0);
    }
  }
  void end() override {}

 private:
  std::ostream& out_;
};

}  // namespace

std::unique_ptr<RecordPrinter> make_text_printer(std::ostream& out) {
  return std::make_unique<TextPrinter>(out);
}

void print_hex(std::ostream& out, const std::vector<std::byte>& bytes, uint64_t offset) {
  constexpr size_t kLineBytes = 16;
  std::span<const std::byte> rest = bytes;
  while (!rest.empty()) {
    std::span<const std::byte> line = rest.first(std::min(kLineBytes, rest.size()));
    std::string text = fmt::format("  {:08x} ", offset);
    for (std::byte byte : line) text += fmt::format(" {:02x}", static_cast<unsigned>(byte));
    out << text << "\n";
    offset += line.size();
    rest = rest.subspan(line.size());
  }
}

}  // namespace godwit::images
