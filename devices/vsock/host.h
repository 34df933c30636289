// VsockHost: how the host's code reaches ports of the guest, and waits for the guest to reach its
// own.
//
// Thread rule: every method from any thread; a VsockHost may outlive its device.
// Invariant: no method blocks longer than its deadline, whatever the guest does; after
// shutdown_all() every call, also one that already waits, answers its status.
#ifndef RAMET_DEVICES_VSOCK_HOST_H_
#define RAMET_DEVICES_VSOCK_HOST_H_

#include <cstdint>
#include <memory>

#include "devices/vsock/metrics.h"
#include "devices/vsock/stream.h"
#include "vmm/base/status.h"

namespace ramet {

class VsockHost {
 public:
  explicit VsockHost(std::shared_ptr<vsock::Core> core) : core_(std::move(core)) {}

  // Connects to `guest_port` and waits until the guest accepts. May be called before the guest
  // runs: the request waits in the device. Unavailable when the guest refuses, DeadlineExceeded,
  // ResourceExhausted beyond kMaxConnections. `deadline_ns` on CLOCK_MONOTONIC, 0 = none.
  StatusOr<std::unique_ptr<VsockStream>> connect(uint32_t guest_port, uint64_t deadline_ns);
  // The same without waiting: the stream takes writes at once, which reach the guest right behind
  // its acceptance, without a host thread waking in between.
  StatusOr<std::unique_ptr<VsockStream>> start_connect(uint32_t guest_port);

  // Lets the guest connect to `host_port`. At most kMaxListeners ports and kMaxBacklog connections
  // that nobody accepted yet on each. AlreadyExists, ResourceExhausted.
  Status listen(uint32_t host_port);
  // The next connection that the guest made to a listening port. FailedPrecondition when nobody
  // called listen(), DeadlineExceeded.
  StatusOr<std::unique_ptr<VsockStream>> accept(uint32_t host_port, uint64_t deadline_ns);

  // The machine is dead or being killed: wakes every waiter with `reason` (not OK; Cancelled says
  // it best) and fails every later call with it. The first call's reason stays.
  void shutdown_all(const Status& reason);

  VsockMetrics metrics() const;
  // How many connections there may be at once.
  size_t max_connections() const;

 private:
  const std::shared_ptr<vsock::Core> core_;
};

}  // namespace ramet

#endif  // RAMET_DEVICES_VSOCK_HOST_H_
