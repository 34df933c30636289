// VsockStream: the host's end of one stream connection with the guest (the "backend" of this
// device: there is no socket and no descriptor behind it).
//
// Thread rule: one thread uses a stream; wake() alone may be called from any thread. Different
// streams of one device may be used by different threads at once. Invariant: bytes arrive in order
// and once; a stream may outlive its device, and then answers an error.
#ifndef RAMET_DEVICES_VSOCK_STREAM_H_
#define RAMET_DEVICES_VSOCK_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "vmm/base/status.h"

namespace ramet {

namespace vsock {
class Connection;
class Core;
}  // namespace vsock

// What a non-blocking transfer did.
struct VsockTransfer {
  enum class State : uint8_t {
    kMoved,       // `bytes` >= 1 were moved
    kWouldBlock,  // nothing could be moved now: wait()
    kEnd,         // read only: the guest has shut down its sending side and all was read
  };
  State state = State::kWouldBlock;
  size_t bytes = 0;

  friend bool operator==(const VsockTransfer&, const VsockTransfer&) = default;
};

struct VsockReadiness {
  bool readable = false;  // try_read would not answer kWouldBlock (end and reset count)
  bool writable = false;  // try_write would not answer kWouldBlock (reset counts)
};

// Errors of every method: Unavailable when the guest reset or refused the connection (bytes that
// arrived before are read first); the status given to VsockHost::shutdown_all() when the machine
// died (Cancelled where the device was destroyed without it); FailedPrecondition after close().
// A deadline is on CLOCK_MONOTONIC in nanoseconds, 0 = none; readiness wins over a passed deadline.
class VsockStream {
 public:
  // Made by VsockHost.
  VsockStream(std::shared_ptr<vsock::Core> core, std::shared_ptr<vsock::Connection> connection);
  // Resets the connection if it is still open.
  ~VsockStream();
  VsockStream(const VsockStream&) = delete;
  VsockStream& operator=(const VsockStream&) = delete;

  // Waits for at least a byte. 0: the guest closed its sending side. DeadlineExceeded.
  StatusOr<size_t> read(std::span<std::byte> into, uint64_t deadline_ns);
  // Waits for room for at least a byte, in a buffer of kTransmitBufferBytes that the guest's credit
  // empties; may be short. Legal while the connection is still being made: the bytes follow the
  // request. FailedPrecondition after shutdown_write(), DeadlineExceeded.
  StatusOr<size_t> write(std::span<const std::byte> from, uint64_t deadline_ns);

  // One attempt each; the spans are not empty.
  StatusOr<VsockTransfer> try_read(std::span<std::byte> into);
  StatusOr<VsockTransfer> try_write(std::span<const std::byte> from);
  // Waits until the stream is readable, or writable when `want_write`, or wake() was called since
  // the last wait() returned (both may be false then). A reset is readiness, not an error;
  // DeadlineExceeded, and the machine's death, are errors.
  StatusOr<VsockReadiness> wait(bool want_write, uint64_t deadline_ns);
  // Makes the current wait(), or the next one when none is running, return. Any thread.
  void wake();

  // For a user that does not wait() but polls: `listener` is called whenever what wait() would say
  // may have changed, until the stream is destroyed. On any thread, with the device's mutex held:
  // it must take no lock, use no stream, and not block. Empty: none.
  void set_on_change(std::function<void()> listener);

  // Waits until the guest accepted the connection; OK at once on an accepted one. Unavailable when
  // the guest refused (nobody listens on that port), DeadlineExceeded.
  Status wait_connected(uint64_t deadline_ns);

  // Nothing more will be written: the guest reads an end after what was written before.
  Status shutdown_write();
  // Closes in order: what was written is still sent, then both directions are shut down. Does not
  // wait. Unread bytes are dropped.
  void close();

  uint32_t host_port() const;
  uint32_t guest_port() const;

 private:
  const std::shared_ptr<vsock::Core> core_;
  const std::shared_ptr<vsock::Connection> connection_;
  bool closed_ = false;  // with the core's mutex, as wake() may come at any time
};

}  // namespace ramet

#endif  // RAMET_DEVICES_VSOCK_STREAM_H_
