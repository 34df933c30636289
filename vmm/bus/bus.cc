#include "vmm/bus/bus.h"

#include <algorithm>

#include <absl/strings/str_format.h>

#include "vmm/base/checked.h"

namespace ramet {

Status Bus::insert(uint64_t start, uint64_t size, BusDevice* device) {
  const auto end = checked_add(start, size);
  if (size == 0 || !end) {
    return absl::InvalidArgumentError(
        absl::StrFormat("bus range of %#x bytes at %#x is empty or wraps", size, start));
  }
  const auto next = std::find_if(ranges_.begin(), ranges_.end(),
                                 [&](const Range& range) { return range.start >= start; });
  const bool hits_next = next != ranges_.end() && next->start < *end;
  const bool hits_previous =
      next != ranges_.begin() && std::prev(next)->start + std::prev(next)->size > start;
  if (hits_next || hits_previous) {
    return absl::AlreadyExistsError(
        absl::StrFormat("bus range of %#x bytes at %#x overlaps another device", size, start));
  }
  ranges_.insert(next, Range{start, size, device});
  return Status();
}

const Bus::Range* Bus::find(uint64_t address, size_t size) const {
  const auto after = std::upper_bound(ranges_.begin(), ranges_.end(), address,
                                      [](uint64_t a, const Range& r) { return a < r.start; });
  if (after == ranges_.begin()) {
    return nullptr;
  }
  const Range& range = *std::prev(after);
  const uint64_t offset = address - range.start;
  return offset < range.size && size <= range.size - offset ? &range : nullptr;
}

bool Bus::read(uint64_t address, std::span<std::byte> data) const {
  std::fill(data.begin(), data.end(), std::byte{0xff});
  const Range* range = find(address, data.size());
  if (range == nullptr) {
    return false;
  }
  range->device->bus_read(address - range->start, data);
  return true;
}

bool Bus::write(uint64_t address, std::span<const std::byte> data) const {
  const Range* range = find(address, data.size());
  if (range == nullptr) {
    return false;
  }
  range->device->bus_write(address - range->start, data);
  return true;
}

}  // namespace ramet
