// QueueConfig: a virtqueue while the driver sets it up: numbers without meaning until activate().
//
// Thread rule: guarded by the transport's mutex.
// Invariant: a Queue made by activate() has a power-of-two size of at most kMaxQueueSize and three
// aligned areas that are RAM from end to end.
#ifndef RAMET_DEVICES_VIRTIO_QUEUE_CONFIG_H_
#define RAMET_DEVICES_VIRTIO_QUEUE_CONFIG_H_

#include <cstdint>

#include "vmm/base/status.h"
#include "vmm/memory/guest_memory.h"

namespace ramet::virtio {

// Our limit; the specification's is 32768 (2.7).
inline constexpr uint16_t kMaxQueueSize = 256;

class Queue;

// Where the parts of a split virtqueue are (2.7): descriptor table, available ("driver") ring, used
// ("device") ring.
struct QueueLayout {
  uint16_t size = 0;
  GuestAddr desc;
  GuestAddr avail;
  GuestAddr used;

  friend bool operator==(const QueueLayout&, const QueueLayout&) = default;
};

// What was negotiated and concerns the ring.
struct QueueFeatures {
  bool indirect = false;
  bool event_idx = false;
};

class QueueConfig {
 public:
  explicit QueueConfig(uint16_t max_size) : max_size_(max_size) {}

  uint16_t max_size() const { return max_size_; }
  const QueueLayout& layout() const { return layout_; }
  bool ready() const { return ready_; }

  QueueLayout* mutable_layout() { return &layout_; }
  void set_ready(bool ready) { ready_ = ready; }

  // OK when a queue of this layout could run in `memory`; InvalidArgument saying which part is
  // wrong.
  Status check(const GuestMemory& memory) const;

  // A fresh queue at index 0.
  StatusOr<Queue> activate(const GuestMemory* memory, QueueFeatures features) const;

  // A queue that goes on at `position` (see Queue::position()) after a restore. Refuses a position
  // that the rings in memory contradict.
  StatusOr<Queue> activate_at(const GuestMemory* memory, QueueFeatures features,
                              uint16_t position) const;

 private:
  uint16_t max_size_;
  QueueLayout layout_;
  bool ready_ = false;
};

}  // namespace ramet::virtio

#endif  // RAMET_DEVICES_VIRTIO_QUEUE_CONFIG_H_
