// What a bus needs of a device: BusDevice answers guest accesses, IrqLine carries its interrupts.
//
// Thread rule: the bus calls a device from any vCPU thread, several at once; a device guards its
// own state. Invariant: `offset` lies inside the range the device was registered with, and `data`
// is 1 to 8 bytes that do not reach past its end.
#ifndef RAMET_VMM_BUS_DEVICE_H_
#define RAMET_VMM_BUS_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace ramet {

// One device behind a range of MMIO addresses or I/O ports. Accesses are little-endian.
class BusDevice {
 public:
  virtual ~BusDevice() = default;
  // Fills `data` with what the guest reads at `offset` of the device's range.
  virtual void bus_read(uint64_t offset, std::span<std::byte> data) = 0;
  virtual void bus_write(uint64_t offset, std::span<const std::byte> data) = 0;
};

// An edge-triggered interrupt line. All of Ramet's lines are, so a line has no level to keep.
class IrqLine {
 public:
  virtual ~IrqLine() = default;
  // Raises one edge. From any thread; never blocks; an edge raised while the pin is masked stays
  // pending in the interrupt controller.
  virtual void trigger() = 0;
};

}  // namespace ramet

#endif  // RAMET_VMM_BUS_DEVICE_H_
