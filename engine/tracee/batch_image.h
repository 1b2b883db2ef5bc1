#pragma once

#include <vector>

#include "engine/tracee/batch.h"
#include "engine/tracee/remote_memory.h"

namespace godwit::tracee {

// A batch laid out for a place in a tracee: its descriptors, then its data.
class BatchImage {
 public:
  // The bytes that the batch will take.
  static uint64_t size_of(const Batch& batch);

  BatchImage(const Batch& batch, RemoteAddress place);

  RemoteAddress place() const { return place_; }
  uint64_t call_count() const { return descriptors_.size(); }
  // Copies it to its place.
  void write(const RemoteMemory& memory) const;
  // Reads results and returned data back, after the batch.
  BatchResults read(const RemoteMemory& memory) const;

 private:
  RemoteAddress data_place() const;
  StubDescriptor encode(const Batch::Call& call) const;

  RemoteAddress place_;
  std::vector<StubDescriptor> descriptors_;
  std::vector<std::byte> data_;
  std::vector<Batch::Data> returned_;
};

}  // namespace godwit::tracee
