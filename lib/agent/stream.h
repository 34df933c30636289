// ByteStream: the host's end of one vsock connection to the guest, as the agent client sees it: two
// non-blocking transfers, one wait, one half-close. There is no descriptor behind it; devices/vsock
// (through lib/core) and the tests implement it.
//
// Thread rule: one thread uses a stream; wake() alone may be called from any thread.
// Invariant: bytes arrive in order and once; after an error every later call gives an error.
#ifndef RAMET_LIB_AGENT_STREAM_H_
#define RAMET_LIB_AGENT_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "vmm/base/status.h"

namespace ramet {

// What a non-blocking transfer did.
struct IoResult {
  enum class State : uint8_t {
    kMoved,       // `bytes` >= 1 were moved
    kWouldBlock,  // nothing could be moved now: wait()
    kEnd,         // read only: the peer has shut down its sending side and all was read
  };
  State state = State::kWouldBlock;
  size_t bytes = 0;

  static IoResult moved(size_t bytes) { return {State::kMoved, bytes}; }
  static IoResult would_block() { return {State::kWouldBlock, 0}; }
  static IoResult end() { return {State::kEnd, 0}; }
  friend bool operator==(const IoResult&, const IoResult&) = default;
};

struct Readiness {
  bool readable = false;  // try_read would not answer kWouldBlock (end and reset count)
  bool writable = false;  // try_write would not answer kWouldBlock (reset counts)
};

class ByteStream {
 public:
  // Resets the connection if it is still open.
  virtual ~ByteStream() = default;

  // Moves 1 to into.size() bytes, or says why not. `into` is not empty. Unavailable when the
  // connection was reset (bytes that arrived before the reset may be lost), Cancelled when the
  // owner interrupted the stream (the sandbox is being killed).
  virtual StatusOr<IoResult> try_read(std::span<std::byte> into) = 0;

  // Moves 1 to from.size() bytes as far as the peer's credit goes. `from` is not empty. Errors as
  // try_read; never kEnd. FailedPrecondition after shutdown_write().
  virtual StatusOr<IoResult> try_write(std::span<const std::byte> from) = 0;

  // Blocks until the stream is readable (always waited for), or writable when `want_write`, or
  // wake() was called since the last wait() returned (then both may be false), or `deadline_ns` on
  // CLOCK_MONOTONIC has passed (DeadlineExceeded; 0 = no deadline; readiness wins over a passed
  // deadline, so wait() with a past deadline polls). Cancelled as above; a reset is not an error
  // here but readiness.
  virtual StatusOr<Readiness> wait(bool want_write, uint64_t deadline_ns) = 0;

  // Makes the current wait(), or the next one when none is running, return. Any thread.
  virtual void wake() = 0;

  // Nothing more will be written; the peer reads an end after what was written before.
  virtual Status shutdown_write() = 0;
};

}  // namespace ramet

#endif  // RAMET_LIB_AGENT_STREAM_H_
