#include "pageserver/pipelined_sink.h"

#include "pageserver/wire.h"

namespace godwit::pageserver {

PipelinedSink::PipelinedSink(std::unique_ptr<kinds::PageSink> inner)
    : inner_(std::move(inner)),
      pipeline_([this](std::span<const EntryPipeline::Entry> entries) { store(entries); }) {}

bool PipelinedSink::open(kinds::PageImageId id) {
  pipeline_.drain();
  return inner_->open(id);
}

void PipelinedSink::add_in_parent(kinds::PageRange range) {
  pipeline_.add(range, kInParent);
}

void PipelinedSink::add_lazy(kinds::PageRange range) {
  pipeline_.add(range, kLazy);
}

std::span<std::byte> PipelinedSink::buffer() {
  return pipeline_.buffer();
}

void PipelinedSink::add_pages(kinds::PageRange range, bool may_be_lazy) {
  pipeline_.add_pages(range, may_be_lazy ? kPresent | kLazy : kPresent);
}

void PipelinedSink::close() {
  pipeline_.drain();
  inner_->close();
}

void PipelinedSink::finish() {
  pipeline_.drain();
  inner_->finish();
}

// On the pipeline's thread.
void PipelinedSink::store(std::span<const EntryPipeline::Entry> entries) {
  for (const EntryPipeline::Entry& entry : entries) {
    if (entry.flags & kPresent) {
      inner_->add_contents(entry.range, entry.contents, (entry.flags & kLazy) != 0);
    } else if (entry.flags & kInParent) {
      inner_->add_in_parent(entry.range);
    } else {
      inner_->add_lazy(entry.range);
    }
  }
}

}  // namespace godwit::pageserver
