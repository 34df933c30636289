// Bus: which device answers at which address. One for MMIO, one for I/O ports.
//
// Thread rule: insert() while the machine is built; read() and write() from any vCPU thread after
// that. Invariant: ranges do not overlap; the bus does not own the devices, which outlive it.
#ifndef RAMET_VMM_BUS_BUS_H_
#define RAMET_VMM_BUS_BUS_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/status.h"
#include "vmm/bus/device.h"

namespace ramet {

class Bus {
 public:
  // AlreadyExists when the range overlaps another; InvalidArgument when it is empty or wraps.
  Status insert(uint64_t start, uint64_t size, BusDevice* device);
  // Forgets every device. Only while no vCPU runs.
  void clear() { ranges_.clear(); }

  // A read where no device is gives all ones, as an undriven bus does; returns false then, as
  // write() does.
  bool read(uint64_t address, std::span<std::byte> data) const;
  bool write(uint64_t address, std::span<const std::byte> data) const;

 private:
  struct Range {
    uint64_t start;
    uint64_t size;
    BusDevice* device;
  };
  // The range that holds all of `size` bytes at `address`; nullptr where there is none.
  const Range* find(uint64_t address, size_t size) const;

  std::vector<Range> ranges_;  // ascending by start
};

}  // namespace ramet

#endif  // RAMET_VMM_BUS_BUS_H_
