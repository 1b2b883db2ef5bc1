#pragma once

#include <chrono>
#include <cstddef>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>

#include "engine/base/error.h"
#include "engine/base/fd.h"

namespace godwit::tls {

// Nothing came, or nothing could be sent, for as long as the stream's timeout allows.
class TimeoutError : public Error {
 public:
  using Error::Error;
};

// A connected stream socket and how messages name its other end ("127.0.0.1:9876").
struct Connection {
  Fd socket;
  std::string peer;
  // Somebody else holds the same socket (--ps-socket), so ending the stream must not shut it down.
  bool shared = false;
};

// An ordered stream of bytes with one peer: PlainStream, or Session (TLS). Used by one thread at a time. The
// socket's file status flags are left alone, because a --ps-socket is shared with whoever passed it.
class Stream {
 public:
  using Bytes = std::span<std::byte>;
  using ConstBytes = std::span<const std::byte>;
  using Milliseconds = std::chrono::milliseconds;
  using Timeout = std::optional<Milliseconds>;  // empty: as long as it takes

  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  virtual ~Stream() = default;

  // Reads what is there without waiting: the number of bytes, 0 at the orderly end of the peer's data, or
  // nothing. After nothing, and only then, poll fd() for POLLIN: decrypted bytes may be waiting in the stream
  // itself. Throws SystemError (ECONNRESET, ...), and over TLS Error for a broken record or a truncated
  // stream.
  virtual std::optional<size_t> try_read(Bytes bytes) = 0;
  // Writes all parts in order. Over TLS each part starts a record of its own, and the records of a part start
  // at multiples of 16 KiB in it, so a part below that size is never split. Throws TimeoutError, SystemError,
  // Error.
  virtual void write(std::span<const ConstBytes> parts) = 0;
  void write(ConstBytes part) { write(std::span(&part, 1)); }
  void write(std::initializer_list<ConstBytes> parts) { write(std::span(parts.begin(), parts.size())); }
  // Tells the peer that nothing more comes (close_notify over TLS, then FIN) and waits for its end, at most
  // this long; what it still sends is dropped. Says whether the peer ended in order. Does not throw.
  virtual bool end(Milliseconds timeout) noexcept = 0;

  // The same as try_read, but waits; nothing means that the timeout passed.
  std::optional<size_t> read_within(Bytes bytes, Timeout timeout);
  // Waits as long as timeout(); throws TimeoutError. 0 is the peer's orderly end.
  size_t read_some(Bytes bytes);
  // Fills `bytes`, or throws FormatError ("WHAT ends early: 3 of 8 bytes").
  void read_exactly(Bytes bytes, const char* what);

  // Waits for more from the peer, after try_read gave nothing; false when the timeout passed.
  bool wait_for_input(Timeout timeout) const;

  // How long one wait of read_some, read_exactly or write may last. At first without limit.
  void set_timeout(Timeout timeout) { timeout_ = timeout; }
  Timeout timeout() const { return timeout_; }

  // Ends every wait of a thread that is in this stream, now; may be called from another thread.
  void abort() noexcept;

  int fd() const { return connection_.socket.get(); }
  const std::string& peer() const { return connection_.peer; }

 protected:
  explicit Stream(Connection connection) : connection_(std::move(connection)) {}
  // poll(2) for these events; false when the timeout passed.
  bool wait(short events, Timeout timeout) const;
  // Waits as long as timeout(), or throws TimeoutError.
  void wait_or_throw(short events) const;
  // FIN if nobody shares the socket; then reads the raw socket to its end within the timeout.
  bool shut_down(Milliseconds timeout) noexcept;
  bool shared() const { return connection_.shared; }

 private:
  Connection connection_;
  Timeout timeout_;
};

}  // namespace godwit::tls
