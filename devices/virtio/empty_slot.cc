#include "devices/virtio/empty_slot.h"

#include <algorithm>
#include <cstring>

#include "devices/virtio/abi.h"

namespace ramet::virtio {

void EmptySlot::bus_read(uint64_t offset, std::span<std::byte> data) {
  std::fill(data.begin(), data.end(), std::byte{0});
  uint32_t value = 0;
  if (offset == reg::kMagicValue) {
    value = kMmioMagic;
  } else if (offset == reg::kVersion) {
    value = kMmioVersion;
  }
  if (data.size() == sizeof(value)) {
    std::memcpy(data.data(), &value, sizeof(value));
  }
}

void EmptySlot::bus_write(uint64_t, std::span<const std::byte>) {}

}  // namespace ramet::virtio
