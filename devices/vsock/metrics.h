// VsockMetrics: what the vsock device counted since it was made.
//
// Thread rule: a plain value; the device's own copy is guarded by the core's lock.
// Invariant: counters only grow; `connections` is the number alive now.
#ifndef RAMET_DEVICES_VSOCK_METRICS_H_
#define RAMET_DEVICES_VSOCK_METRICS_H_

#include <cstdint>

namespace ramet {

struct VsockMetrics {
  uint64_t rx_packets = 0;  // host to guest, named from the guest's side as in the specification
  uint64_t rx_bytes = 0;    // payload only
  uint64_t tx_packets = 0;  // guest to host
  uint64_t tx_bytes = 0;
  uint64_t connections = 0;
  uint64_t connections_made = 0;   // both directions, also those that never opened
  uint64_t refused = 0;            // requests of the guest answered by RST
  uint64_t resets_sent = 0;        // RST packets to the guest
  uint64_t resets_received = 0;    // RST packets from the guest
  uint64_t malformed = 0;          // packets that break the specification
  uint64_t foreign_cid = 0;        // packets not from this guest or not to this host
  uint64_t bad_buffers = 0;        // descriptor chains too short or outside of memory
  uint64_t credit_violations = 0;  // connections reset for data or claims beyond credit
  uint64_t transport_resets = 0;   // TRANSPORT_RESET events given to the guest
  uint64_t tx_pauses = 0;          // times the guest's packets waited for receive buffers
};

}  // namespace ramet

#endif  // RAMET_DEVICES_VSOCK_METRICS_H_
