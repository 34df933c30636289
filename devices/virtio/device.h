// VirtioDevice: what the transport needs of a device, and TransportEvents: what it gives back.
//
//                    create(options)           create_from_state(options, bytes)
//                          |                               |
//                          v                               |   (status had DRIVER_OK)
//   +------------->   [ Inactive ]                         |   activate(queues at their positions)
//   |                      | activate(queues)              |
//   | reset()              v                               v
//   +--------------   [ Running ]  ---quiesce()--->   [ Quiesced ]  ---save()---> SavedDevice
//   |                      ^ |                             | |
//   |                      | |        <---resume()---------+ |
//   |                      | | the driver broke a ring        |
//   |                      | v                                |
//   +--------------   [ Failed ]: events->needs_reset(), ignores notify()
//   +---------------------------------------------------------+
//
// - Inactive: no queue, no memory; notify() does nothing. quiesce(), resume(), save() and reset()
//   are legal and trivial. A device made from saved state is Quiesced once activated: it touches
//   neither memory nor interrupts before resume(), which works through whatever its queues hold.
// - Running: the device owns its Queues. notify() comes from vCPU threads.
// - Quiesced: nothing is in flight and nothing will start. No vCPU runs. In this state and only in
//   this one (or Inactive, Failed) save() is legal.
// - activate() in any state but Inactive is FailedPrecondition and changes nothing.
// - The destructor waits for what is in flight, as reset() does.
//
// Thread rule: activate, reset, read_config, write_config, quiesce, resume, save come one at a time
// (the transport holds its mutex); notify() comes from several vCPU threads, one at a time as well;
// a device's own loop or executor threads run at any time, so a device guards its queues with a
// mutex of its own. Lock order: transport mutex, then device mutex. TransportEvents takes no lock,
// so it may be called with the device mutex held.
// Invariant: no method blocks but for work of the device that is in flight, which is bounded.
#ifndef RAMET_DEVICES_VIRTIO_DEVICE_H_
#define RAMET_DEVICES_VIRTIO_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "devices/virtio/abi.h"
#include "devices/virtio/queue.h"
#include "vmm/base/status.h"
#include "vmm/memory/guest_memory.h"

namespace ramet::virtio {

// What the transport does for its device. Any thread; never blocks; takes no lock. Lives as long as
// the transport, which outlives the device's Running state.
class TransportEvents {
 public:
  virtual ~TransportEvents() = default;
  // Used buffers of this queue are there: sets bit 0 of InterruptStatus and raises the line.
  virtual void queue_interrupt(uint16_t queue) = 0;
  // The configuration space changed: bumps the generation, sets bit 1, raises the line.
  virtual void config_changed() = 0;
  // The device cannot go on until it is reset: sets DEVICE_NEEDS_RESET (2.1.2) and, as that is a
  // configuration change, raises the line. `why` goes to the log and the metrics.
  virtual void needs_reset(const Status& why) = 0;
};

// Everything a device runs on. queues[i] is nothing where the driver left queue i unused; a device
// that cannot do without refuses with FailedPrecondition.
struct Activation {
  const GuestMemory* memory = nullptr;
  uint64_t features = 0;  // negotiated, ring features included
  std::vector<std::optional<Queue>> queues;
  TransportEvents* events = nullptr;
};

// Plain data: what a device hands to the transport's save. Positions as of Queue::position(), one
// per queue, 0 where there is none; all 0 when Inactive.
struct SavedDevice {
  std::vector<uint16_t> queue_positions;
  std::vector<std::byte> bytes;  // at most kMaxDeviceStateBytes; the device's own encoding
};
inline constexpr size_t kMaxDeviceStateBytes = 1 << 20;

struct Metric {
  std::string_view name;  // "requests_read", static storage
  uint64_t value = 0;
};

class VirtioDevice {
 public:
  virtual ~VirtioDevice() = default;

  virtual DeviceType type() const = 0;
  // Feature bits of the device type (0 to 23); the transport adds VERSION_1 and the ring's.
  virtual uint64_t features() const = 0;
  // The largest size of each queue: powers of two, at most kMaxQueueSize. Constant.
  virtual std::span<const uint16_t> queue_max_sizes() const = 0;

  // Configuration space. Bytes outside it read as zero; writes to what cannot be written are
  // ignored. Any offset and size is legal.
  virtual void read_config(uint64_t offset, std::span<std::byte> into) = 0;
  virtual void write_config(uint64_t offset, std::span<const std::byte> from) = 0;

  virtual Status activate(Activation activation) = 0;
  // The driver says queue `index` has work; index is less than queue_max_sizes().size(). On the
  // vCPU thread at the MMIO exit: do what cannot block, hand the rest to a loop.
  virtual void notify(uint16_t index) = 0;
  // Back to Inactive; waits for what is in flight.
  virtual void reset() = 0;

  // Running to Quiesced: returns when nothing is in flight, and nothing starts until resume().
  virtual void quiesce() = 0;
  virtual void resume() = 0;
  // FailedPrecondition while Running.
  virtual StatusOr<SavedDevice> save() const = 0;

  virtual std::vector<Metric> metrics() const = 0;
};

// Fills `into` from `config` at `offset`; what lies outside is zero. For read_config().
void read_config_bytes(std::span<const std::byte> config, uint64_t offset,
                       std::span<std::byte> into);

}  // namespace ramet::virtio

#endif  // RAMET_DEVICES_VIRTIO_DEVICE_H_
