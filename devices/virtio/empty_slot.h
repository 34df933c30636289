// EmptySlot: a virtio-mmio slot that the ACPI tables announce and that holds no device. A driver
// reads DeviceID 0 and leaves it alone (virtio 1.2, 4.2.3.1.1); a machine made later from the same
// template may have a device there.
//
// Thread rule: stateless; call from anywhere.
// Invariant: writes change nothing.
#ifndef RAMET_DEVICES_VIRTIO_EMPTY_SLOT_H_
#define RAMET_DEVICES_VIRTIO_EMPTY_SLOT_H_

#include "vmm/bus/device.h"

namespace ramet::virtio {

class EmptySlot final : public BusDevice {
 public:
  void bus_read(uint64_t offset, std::span<std::byte> data) override;
  void bus_write(uint64_t offset, std::span<const std::byte> data) override;
};

}  // namespace ramet::virtio

#endif  // RAMET_DEVICES_VIRTIO_EMPTY_SLOT_H_
