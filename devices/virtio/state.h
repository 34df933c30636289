// Saved state of a virtio-mmio device: transport registers, queues, and the device's own bytes.
//
// Thread rule: plain values and pure functions.
// Invariant: what decode_transport_state() returns has every enum, count and bit within bounds;
// addresses are checked against memory when the transport is made from it.
#ifndef RAMET_DEVICES_VIRTIO_STATE_H_
#define RAMET_DEVICES_VIRTIO_STATE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "devices/virtio/abi.h"
#include "devices/virtio/queue_config.h"
#include "vmm/base/status.h"

namespace ramet::virtio {

inline constexpr uint16_t kTransportStateVersion = 1;
inline constexpr size_t kMaxQueues = 8;

struct QueueState {
  QueueLayout layout;
  bool ready = false;
  uint16_t position = 0;

  friend bool operator==(const QueueState&, const QueueState&) = default;
};

struct TransportState {
  DeviceType type = DeviceType::kNone;
  uint64_t device_features = 0;  // as offered, to refuse a device that lost one
  uint64_t driver_features = 0;
  uint32_t device_features_sel = 0;
  uint32_t driver_features_sel = 0;
  uint32_t queue_sel = 0;
  uint32_t status = 0;
  uint32_t interrupt_status = 0;
  uint32_t config_generation = 0;
  std::vector<QueueState> queues;
  std::vector<std::byte> device;  // SavedDevice::bytes

  friend bool operator==(const TransportState&, const TransportState&) = default;
};

std::vector<std::byte> encode_transport_state(const TransportState& state);
StatusOr<TransportState> decode_transport_state(std::span<const std::byte> bytes);

}  // namespace ramet::virtio

#endif  // RAMET_DEVICES_VIRTIO_STATE_H_
