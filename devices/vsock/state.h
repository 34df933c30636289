// Saved state of the vsock device: no connection survives a snapshot, so there is little of it.
//
// Thread rule: plain values and pure functions.
// Invariant: what decode_vsock_state() returns has every number within bounds.
#ifndef RAMET_DEVICES_VSOCK_STATE_H_
#define RAMET_DEVICES_VSOCK_STATE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/status.h"

namespace ramet::vsock {

// Where the TRANSPORT_RESET event stands (device.h says why packets wait for it).
enum class ResetEvent : uint8_t {
  kNone = 0,       // saved: it is due in what is restored
  kDue = 1,        // not yet in the guest's hands
  kGiven = 2,      // in the used ring, and the guest has not returned the buffer
  kNotNeeded = 3,  // saved only: the guest had no connection that it could still believe in
};

struct VsockState {
  bool active = false;  // the driver had set the device up
  ResetEvent reset_event = ResetEvent::kNone;
  // For kGiven: event buffers available when it was given; with more the guest has returned one.
  uint16_t event_buffers = 0;
  // The next host port: a fork starts behind every port that its template may have used.
  uint32_t next_port = 0;

  friend bool operator==(const VsockState&, const VsockState&) = default;
};

std::vector<std::byte> encode_vsock_state(const VsockState& state);
// DataLoss saying what is wrong.
StatusOr<VsockState> decode_vsock_state(std::span<const std::byte> bytes);

}  // namespace ramet::vsock

#endif  // RAMET_DEVICES_VSOCK_STATE_H_
