#pragma once

#include "tls/stream.h"

namespace godwit::tls {

// A stream without encryption.
class PlainStream final : public Stream {
 public:
  using Stream::write;

  explicit PlainStream(Connection connection);

  std::optional<size_t> try_read(Bytes bytes) override;
  void write(std::span<const ConstBytes> parts) override;
  bool end(Milliseconds timeout) noexcept override;
};

}  // namespace godwit::tls
