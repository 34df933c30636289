#include "devices/virtio/device.h"

#include <algorithm>

namespace ramet::virtio {

void read_config_bytes(std::span<const std::byte> config, uint64_t offset,
                       std::span<std::byte> into) {
  std::fill(into.begin(), into.end(), std::byte{0});
  if (offset < config.size()) {
    const auto part = config.subspan(offset, std::min(into.size(), config.size() - offset));
    std::copy(part.begin(), part.end(), into.begin());
  }
}

}  // namespace ramet::virtio
