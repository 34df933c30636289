// Core: what a vsock device shares with its streams: the muxer, the mutex around it, and the way to
// the queues while there is one.
//
// Thread rule: lock() first, then the rest; only the constructor needs no lock. The mutex is the
// device's own of devices/virtio/device.h: the transport's mutex comes before it, and nothing is
// locked under it.
// Invariant: after end() nothing changes any more but by reads of what already arrived.
#ifndef RAMET_DEVICES_VSOCK_CORE_H_
#define RAMET_DEVICES_VSOCK_CORE_H_

#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "devices/vsock/muxer.h"
#include "vmm/base/status.h"

namespace ramet::vsock {

// The device, as the streams see it.
class PacketPort {
 public:
  virtual ~PacketPort() = default;
  // Moves what the muxer has for the guest into its receive buffers, as far as there are some. With
  // the core's mutex held; never waits for the guest.
  virtual void pump() = 0;
};

class Core {
 public:
  explicit Core(uint32_t first_port, size_t max_connections = kMaxConnections)
      : muxer_(first_port, max_connections) {}

  using Lock = std::unique_lock<std::mutex>;
  Lock lock() { return Lock(mutex_); }

  Muxer& muxer() { return muxer_; }
  void set_port(PacketPort* port) { port_ = port; }
  // OK, or why the machine is over.
  const Status& ended() const { return ended_; }
  // The first reason stays.
  void end(const Status& reason);

  // After a change of `connection` from the host's side.
  void push(Connection* connection);

  // Waits until `ready()` or the end; false at the deadline (CLOCK_MONOTONIC ns, 0 = none).
  template <typename Ready>
  bool wait(Lock& lock, std::condition_variable& changed, uint64_t deadline_ns, Ready ready) {
    while (!ready() && ended_.ok()) {
      if (!wait_once(lock, changed, deadline_ns)) {
        return ready() || !ended_.ok();
      }
    }
    return true;
  }

 private:
  // False when the deadline has passed.
  static bool wait_once(Lock& lock, std::condition_variable& changed, uint64_t deadline_ns);

  std::mutex mutex_;
  Muxer muxer_;
  PacketPort* port_ = nullptr;
  Status ended_;
};

}  // namespace ramet::vsock

#endif  // RAMET_DEVICES_VSOCK_CORE_H_
