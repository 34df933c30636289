#include "devices/virtio/queue_config.h"

#include <bit>

#include <absl/strings/str_format.h>

#include "devices/virtio/abi.h"
#include "devices/virtio/queue.h"

namespace ramet::virtio {
namespace {

Status check_area(const GuestMemory& memory, const char* name, GuestAddr start, uint64_t bytes,
                  uint64_t alignment) {
  const auto slice = GuestSlice::make(start, bytes);
  if (start.value % alignment != 0 || !slice || !memory.contains(*slice)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("virtqueue: %s of %d bytes at %#x is not RAM or not aligned to %d", name,
                        bytes, start.value, alignment));
  }
  return Status();
}

}  // namespace

Status QueueConfig::check(const GuestMemory& memory) const {
  const uint16_t size = layout_.size;
  if (!std::has_single_bit(size) || size > max_size_ || size > kMaxQueueSize) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "virtqueue: size %d, must be a power of two of at most %d", size, max_size_));
  }
  RAMET_RETURN_IF_ERROR(
      check_area(memory, "descriptor table", layout_.desc, desc_bytes(size), kDescAlignment));
  RAMET_RETURN_IF_ERROR(
      check_area(memory, "available ring", layout_.avail, avail_bytes(size), kAvailAlignment));
  return check_area(memory, "used ring", layout_.used, used_bytes(size), kUsedAlignment);
}

StatusOr<Queue> QueueConfig::activate(const GuestMemory* memory, QueueFeatures features) const {
  RAMET_RETURN_IF_ERROR(check(*memory));
  if (!ready_) {
    return absl::FailedPreconditionError("virtqueue: activated before the driver made it ready");
  }
  return Queue(memory, layout_, features, 0);
}

StatusOr<Queue> QueueConfig::activate_at(const GuestMemory* memory, QueueFeatures features,
                                         uint16_t position) const {
  RAMET_RETURN_IF_ERROR(check(*memory));
  if (!ready_) {
    return absl::FailedPreconditionError("virtqueue: activated before the driver made it ready");
  }
  RAMET_ASSIGN_OR_RETURN(const uint16_t used,
                         memory->load_acquire_u16(GuestAddr{layout_.used.value + kRingIndex}));
  RAMET_ASSIGN_OR_RETURN(const uint16_t avail,
                         memory->load_acquire_u16(GuestAddr{layout_.avail.value + kRingIndex}));
  const auto ahead = static_cast<uint16_t>(avail - position);
  if (used != position || ahead > layout_.size) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "virtqueue: saved at position %d, but its rings of %d entries stand at used %d, available "
        "%d",
        position, layout_.size, used, avail));
  }
  return Queue(memory, layout_, features, position);
}

}  // namespace ramet::virtio
