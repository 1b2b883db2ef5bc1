#pragma once

#include <google/protobuf/message.h>

#include <cstdint>

namespace godwit::test {

// Sets every field of a message, two elements in each repeated one, messages inside down to `depth`; numbers
// count up from 1, so that no two fields are equal.
inline void fill_message(google::protobuf::Message& message, uint32_t& next, int depth = 4) {
  using google::protobuf::FieldDescriptor;
  const auto& descriptor = *message.GetDescriptor();
  const auto& reflection = *message.GetReflection();
  for (int f = 0; f < descriptor.field_count(); ++f) {
    const FieldDescriptor* field = descriptor.field(f);
    bool many = field->is_repeated();
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      if (depth == 0 && !field->is_required()) continue;
      fill_message(
          many ? *reflection.AddMessage(&message, field) : *reflection.MutableMessage(&message, field), next,
          depth - 1);
      continue;
    }
    for (int i = 0; i < (many ? 2 : 1); ++i) {
      ++next;
      switch (field->cpp_type()) {
        case FieldDescriptor::CPPTYPE_INT32:
          many ? reflection.AddInt32(&message, field, -static_cast<int32_t>(next))
               : reflection.SetInt32(&message, field, -static_cast<int32_t>(next));
          break;
        case FieldDescriptor::CPPTYPE_INT64:
          many ? reflection.AddInt64(&message, field, -int64_t{next})
               : reflection.SetInt64(&message, field, -int64_t{next});
          break;
        case FieldDescriptor::CPPTYPE_UINT32:
          many ? reflection.AddUInt32(&message, field, next) : reflection.SetUInt32(&message, field, next);
          break;
        case FieldDescriptor::CPPTYPE_UINT64:
          many ? reflection.AddUInt64(&message, field, uint64_t{next} << 32)
               : reflection.SetUInt64(&message, field, uint64_t{next} << 32);
          break;
        case FieldDescriptor::CPPTYPE_BOOL:
          many ? reflection.AddBool(&message, field, true) : reflection.SetBool(&message, field, true);
          break;
        case FieldDescriptor::CPPTYPE_ENUM: {
          const auto* value = field->enum_type()->value(field->enum_type()->value_count() - 1);
          many ? reflection.AddEnum(&message, field, value) : reflection.SetEnum(&message, field, value);
          break;
        }
        default: {
          std::string text = "text " + std::to_string(next);
          many ? reflection.AddString(&message, field, text) : reflection.SetString(&message, field, text);
        }
      }
    }
  }
}

}  // namespace godwit::test
