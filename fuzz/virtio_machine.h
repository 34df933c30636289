// Guest memory for the virtio fuzz targets: one memfd for the whole run, of which each input fills
// the first bytes.
#ifndef RAMET_FUZZ_VIRTIO_MACHINE_H_
#define RAMET_FUZZ_VIRTIO_MACHINE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "vmm/bus/device.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/mapping.h"

namespace ramet::fuzz {

inline void require(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

inline constexpr uint64_t kMemoryBytes = 64 << 10;

// Two regions with a hole between, so that buffers may straddle an end of RAM.
inline const GuestMemory& memory() {
  static const std::unique_ptr<GuestMemory> made = [] {
    const MemoryRegion regions[] = {{GuestAddr{0}, kMemoryBytes, 0},
                                    {GuestAddr{0x100000}, 0x1000, kMemoryBytes}};
    auto fd = create_memfd("fuzz-memory", kMemoryBytes + 0x1000);
    require(fd.ok());
    auto result = GuestMemory::create(fd->get(), regions, MapMode::kShared);
    require(result.ok());
    return *std::move(result);
  }();
  return *made;
}

// Memory becomes `image` and zeros.
inline void load(std::span<const std::byte> image) {
  const auto part = image.first(std::min<size_t>(image.size(), kMemoryBytes));
  require(memory().write(GuestAddr{0}, part).ok());
  require(memory().fill_zero({GuestAddr{part.size()}, kMemoryBytes - part.size()}).ok());
}

class SilentIrq final : public IrqLine {
 public:
  void trigger() override { ++count; }
  uint64_t count = 0;
};

}  // namespace ramet::fuzz

#endif  // RAMET_FUZZ_VIRTIO_MACHINE_H_
