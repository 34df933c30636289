// MmioTransport: the virtio-mmio register block (virtio 1.2, 4.2, version 2) in front of one
// device.
//
// Thread rule: bus_read and bus_write from any vCPU thread. One mutex per device guards the
// registers and is held around every call into the device; InterruptStatus, InterruptACK,
// ConfigGeneration and all of TransportEvents are atomics, so a device may raise interrupts with
// its own mutex held. quiesce, resume, save: from the thread that controls the machine, while no
// vCPU runs. Invariant: a register write that its section forbids in the present state changes
// nothing and is counted. The device is active exactly when DRIVER_OK is set and DEVICE_NEEDS_RESET
// was not set by the transport itself.
//
// Restore: an interrupt that was pending at the save is raised again by resume(). The guest may
// have taken it already; then it sees one spurious edge with InterruptStatus as it was, which
// drivers accept, as interrupts may be shared.
#ifndef RAMET_DEVICES_VIRTIO_MMIO_H_
#define RAMET_DEVICES_VIRTIO_MMIO_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "devices/virtio/device.h"
#include "devices/virtio/queue_config.h"
#include "devices/virtio/state.h"
#include "vmm/base/log_sink.h"
#include "vmm/base/status.h"
#include "vmm/bus/device.h"
#include "vmm/memory/guest_memory.h"

namespace ramet::virtio {

// What a transport stands on; all of it outlives the transport. `log` may be null.
struct TransportParts {
  const GuestMemory* memory = nullptr;
  IrqLine* irq = nullptr;
  LogSink* log = nullptr;
};

struct TransportMetrics {
  uint64_t notifications = 0;
  uint64_t interrupts = 0;
  uint64_t refused_accesses = 0;  // register accesses that the state or the specification forbids
  uint64_t failures = 0;          // times the device needed a reset
};

class MmioTransport final : public BusDevice, private TransportEvents {
 public:
  // Bytes of the register block that a bus must give it: the registers and 256 bytes of
  // configuration space and more.
  static constexpr uint64_t kWindowBytes = 0x200;

  // A transport as after a reset. InvalidArgument when the device's queues are out of bounds.
  static StatusOr<std::unique_ptr<MmioTransport>> create(std::unique_ptr<VirtioDevice> device,
                                                         TransportParts parts);
  // A transport as it was saved, around a device made from state.device. The device is quiesced:
  // resume() sets it going. InvalidArgument or FailedPrecondition when the state contradicts
  // itself, the device, or the rings in memory.
  static StatusOr<std::unique_ptr<MmioTransport>> create_from_state(
      std::unique_ptr<VirtioDevice> device, TransportParts parts, const TransportState& state);

  ~MmioTransport() override;

  void bus_read(uint64_t offset, std::span<std::byte> data) override;
  void bus_write(uint64_t offset, std::span<const std::byte> data) override;

  void quiesce();
  void resume();
  // FailedPrecondition while the device runs.
  StatusOr<TransportState> save() const;

  VirtioDevice* device() const { return device_.get(); }
  TransportMetrics metrics() const;

 private:
  MmioTransport(std::unique_ptr<VirtioDevice> device, TransportParts parts);

  // TransportEvents
  void queue_interrupt(uint16_t queue) override;
  void config_changed() override;
  void needs_reset(const Status& why) override;

  uint32_t read_register(uint64_t offset);
  void write_register(uint64_t offset, uint32_t value);
  void write_feature_register(uint64_t offset, uint32_t value);
  void write_queue_register(uint64_t offset, uint32_t value);
  void write_queue_address(QueueLayout* layout, uint64_t offset, uint32_t value);
  void set_queue_ready(QueueConfig* queue, uint32_t value);
  void write_status(uint32_t value);
  void notify(uint32_t queue);
  void reset();
  void activate();
  // The device's activation from the configured queues; `positions` null for fresh ones.
  StatusOr<Activation> make_activation(const std::vector<QueueState>* positions);
  Status adopt(const TransportState& state);
  Status adopt_queue(QueueConfig* queue, const QueueState& saved) const;
  Status check_state(const TransportState& state) const;

  bool features_acceptable(uint64_t features) const;
  bool has(uint32_t status_bits) const { return (status_ & status_bits) == status_bits; }
  bool active() const { return has(kStatusDriverOk) && !needs_reset_.load(); }
  QueueConfig* selected_queue();
  void refuse() { refused_.fetch_add(1, std::memory_order_relaxed); }
  void refuse_unless(bool legal) {
    if (!legal) {
      refuse();
    }
  }

  const std::unique_ptr<VirtioDevice> device_;
  const TransportParts parts_;

  mutable std::mutex mutex_;   // guards what follows, up to the atomics
  uint32_t status_ = 0;        // without DEVICE_NEEDS_RESET
  uint64_t offered_features_;  // after a restore, what was offered before the save
  uint64_t driver_features_ = 0;
  uint32_t device_features_sel_ = 0;
  uint32_t driver_features_sel_ = 0;
  uint32_t queue_sel_ = 0;
  std::vector<QueueConfig> queues_;

  std::atomic<uint32_t> interrupt_status_{0};
  std::atomic<uint32_t> config_generation_{0};
  std::atomic<bool> needs_reset_{false};
  std::atomic<uint64_t> notifications_{0};
  std::atomic<uint64_t> interrupts_{0};
  std::atomic<uint64_t> refused_{0};
  std::atomic<uint64_t> failures_{0};
};

}  // namespace ramet::virtio

#endif  // RAMET_DEVICES_VIRTIO_MMIO_H_
