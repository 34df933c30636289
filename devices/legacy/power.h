// PowerDevice: the ACPI sleep control, sleep status and reset registers (ACPI 6.5, 4.8.3.6 and
// 4.8.3.7), three byte-wide I/O ports that vmm/arch/x86_64/layout.h places.
//
// Thread rule: from any vCPU thread. The handlers are called on the vCPU thread that wrote, without
// a lock; a guest may write again and again, so they must stand repetition and must not block.
// Invariant: stateless: there is nothing to save.
#ifndef RAMET_DEVICES_LEGACY_POWER_H_
#define RAMET_DEVICES_LEGACY_POWER_H_

#include <cstdint>
#include <functional>
#include <span>

#include "vmm/bus/device.h"

namespace ramet {

struct PowerHandlers {
  std::function<void()> power_off;
  std::function<void()> reset;
};

class PowerDevice final : public BusDevice {
 public:
  explicit PowerDevice(PowerHandlers handlers) : handlers_(std::move(handlers)) {}

  void bus_read(uint64_t offset, std::span<std::byte> data) override;
  void bus_write(uint64_t offset, std::span<const std::byte> data) override;

 private:
  const PowerHandlers handlers_;
};

}  // namespace ramet

#endif  // RAMET_DEVICES_LEGACY_POWER_H_
