// Queue: a running split virtqueue. It exists only by way of QueueConfig::activate(), which checked
// its addresses, so a configured queue cannot be used and a running one cannot be reconfigured.
//
// Thread rule: none of its own; the device that owns it guards it with the device's mutex.
// Invariant: every number read from a ring is copied once and checked before use; at most `size`
// chains are out (popped, not pushed) at any time. After an error the ring cannot be trusted: the
// owner reports it with TransportEvents::needs_reset() and leaves the queue alone until reset.
//
// How a device works a queue, on the vCPU thread or a loop, in bounded time:
//
//   begin_batch()                  looks at avail.idx once and asks to be notified of anything
//   later while (pop() gives a chain)    at most what begin_batch() saw, never more than `size`
//     ... push_used(head, bytes)   at once, or later from another thread
//   if (should_interrupt()) events->queue_interrupt(index)      once per batch, after the pushes
//
// A driver that adds chains meanwhile notifies again, so a batch need not look twice.
#ifndef RAMET_DEVICES_VIRTIO_QUEUE_H_
#define RAMET_DEVICES_VIRTIO_QUEUE_H_

#include <cstdint>
#include <optional>

#include "devices/virtio/chain.h"
#include "devices/virtio/queue_config.h"
#include "vmm/base/status.h"
#include "vmm/memory/guest_memory.h"

namespace ramet::virtio {

class Queue {
 public:
  // The number of chains that pop() will give. InvalidArgument when avail.idx runs more than `size`
  // ahead (2.7.6): the driver is broken or hostile.
  StatusOr<uint16_t> begin_batch();

  // The next chain of the batch; nothing at its end. After an error nothing was popped.
  StatusOr<std::optional<Chain>> pop();

  // Gives the chain back; `bytes` is what the device wrote into its writable part.
  Status push_used(uint16_t head, uint32_t bytes);

  // True when the driver wants an interrupt for what was pushed since the last call
  // (2.7.7, 2.7.10).
  StatusOr<bool> should_interrupt();
  // Pushed since then.
  uint16_t untold() const { return static_cast<uint16_t>(next_used_ - signalled_used_); }

  // Asks the driver not to notify until the next begin_batch() (2.7.10). Advice only: it may.
  Status suppress_notify();

  uint16_t size() const { return layout_.size; }
  // Popped and not yet pushed.
  uint16_t in_flight() const { return static_cast<uint16_t>(next_avail_ - next_used_); }
  const QueueLayout& layout() const { return layout_; }
  // Meaningful when nothing is in flight; then it is both the next avail and the next used index.
  uint16_t position() const { return next_used_; }

 private:
  friend class QueueConfig;
  Queue(const GuestMemory* memory, const QueueLayout& layout, QueueFeatures features,
        uint16_t position)
      : memory_(memory),
        layout_(layout),
        features_(features),
        next_avail_(position),
        next_used_(position),
        batch_end_(position),
        signalled_used_(position) {}

  StatusOr<uint16_t> load_avail_index() const;

  const GuestMemory* memory_;
  QueueLayout layout_;
  QueueFeatures features_;
  uint16_t next_avail_;
  uint16_t next_used_;
  uint16_t batch_end_;
  uint16_t signalled_used_;  // used index at the last should_interrupt()
};

}  // namespace ramet::virtio

#endif  // RAMET_DEVICES_VIRTIO_QUEUE_H_
