#pragma once

#include <cstdint>

#include "engine/images/image_kinds.h"

namespace google::protobuf {
class Message;
}

namespace godwit::images {

// The message that the records of this kind are; null for raw files. The first record of a pagemap is a
// pagemap_head and the rest are pagemap_entry; this gives the head.
const google::protobuf::Message* record_prototype(Kind kind);

// Bytes that follow a record whose kind has Payload::kBytes or kPadded.
struct PayloadSize {
  uint64_t bytes = 0;
  uint64_t padding = 0;  // after them, to be skipped
};
PayloadSize payload_size(Kind kind, const google::protobuf::Message& record);

}  // namespace godwit::images
