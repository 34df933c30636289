#include "devices/virtio/queue.h"

#include <atomic>

#include <absl/strings/str_format.h>

#include "devices/virtio/abi.h"

namespace ramet::virtio {
namespace {

// Addresses inside the rings: activate() checked that these do not wrap and are RAM.
GuestAddr offset(GuestAddr start, uint64_t bytes) { return GuestAddr{start.value + bytes}; }
GuestAddr used_event(const QueueLayout& layout) {  // 2.7.7: after the available ring's entries
  return offset(layout.avail, kRingEntries + uint64_t{2} * layout.size);
}
GuestAddr avail_event(const QueueLayout& layout) {  // 2.7.10: after the used ring's entries
  return offset(layout.used, kRingEntries + sizeof(UsedElement) * layout.size);
}

}  // namespace

StatusOr<uint16_t> Queue::load_avail_index() const {
  RAMET_ASSIGN_OR_RETURN(const uint16_t index,
                         memory_->load_acquire_u16(offset(layout_.avail, kRingIndex)));
  const auto ahead = static_cast<uint16_t>(index - next_avail_);
  if (ahead > layout_.size) {
    return absl::InvalidArgumentError(
        absl::StrFormat("virtqueue of %d entries: available index %d is %d ahead of %d",
                        layout_.size, index, ahead, next_avail_));
  }
  return index;
}

StatusOr<uint16_t> Queue::begin_batch() {
  RAMET_ASSIGN_OR_RETURN(uint16_t index, load_avail_index());
  // An honest driver ends this: it can add no more than `size` chains before one is used. One that
  // moves the index to and fro may wait for its next notification.
  for (int look = 0; look <= layout_.size; ++look) {
    // "Notify me when you add the entry with this index"; then look again, since the driver may
    // have added it before it could see that (2.7.10.1, 2.7.13.4).
    if (features_.event_idx) {
      RAMET_RETURN_IF_ERROR(memory_->store_release_u16(avail_event(layout_), index));
    } else {
      RAMET_RETURN_IF_ERROR(memory_->store_release_u16(offset(layout_.used, kRingFlags), 0));
    }
    std::atomic_thread_fence(std::memory_order_seq_cst);
    RAMET_ASSIGN_OR_RETURN(const uint16_t again, load_avail_index());
    if (again == index) {
      break;
    }
    index = again;
  }
  batch_end_ = index;
  return static_cast<uint16_t>(batch_end_ - next_avail_);
}

StatusOr<std::optional<Chain>> Queue::pop() {
  if (next_avail_ == batch_end_) {
    return std::optional<Chain>();
  }
  if (in_flight() >= layout_.size) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "virtqueue of %d entries: the driver made a chain available while as many are in use",
        layout_.size));
  }
  const uint64_t slot = next_avail_ % layout_.size;
  RAMET_ASSIGN_OR_RETURN(const uint16_t head,
                         memory_->load_acquire_u16(offset(layout_.avail, kRingEntries + 2 * slot)));
  const ChainSource source{memory_, layout_.desc, layout_.size, features_.indirect};
  RAMET_ASSIGN_OR_RETURN(Chain chain, walk_chain(source, head));
  ++next_avail_;
  return std::optional<Chain>(std::move(chain));
}

Status Queue::push_used(uint16_t head, uint32_t bytes) {
  if (in_flight() == 0 || head >= layout_.size) {
    return absl::InternalError(
        absl::StrFormat("virtqueue: chain %d pushed with %d in flight", head, in_flight()));
  }
  const uint64_t slot = next_used_ % layout_.size;
  RAMET_RETURN_IF_ERROR(memory_->write_object(
      offset(layout_.used, kRingEntries + slot * sizeof(UsedElement)), UsedElement{head, bytes}));
  ++next_used_;
  // The release orders the element, and the data of the request, before the index (2.7.8.2).
  return memory_->store_release_u16(offset(layout_.used, kRingIndex), next_used_);
}

StatusOr<bool> Queue::should_interrupt() {
  if (signalled_used_ == next_used_) {
    return false;
  }
  const uint16_t old = signalled_used_;
  signalled_used_ = next_used_;
  // The used index must be visible before the driver's wish is read (2.7.13.3).
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (!features_.event_idx) {
    RAMET_ASSIGN_OR_RETURN(const uint16_t flags,
                           memory_->load_acquire_u16(offset(layout_.avail, kRingFlags)));
    return (flags & kAvailNoInterrupt) == 0;
  }
  RAMET_ASSIGN_OR_RETURN(const uint16_t event, memory_->load_acquire_u16(used_event(layout_)));
  // 2.7.10.1: did the used index pass `event` on the way from old to next_used_?
  return static_cast<uint16_t>(next_used_ - event - 1) < static_cast<uint16_t>(next_used_ - old);
}

Status Queue::suppress_notify() {
  if (features_.event_idx) {
    // The entry before the next one: it takes the driver 65,535 chains to reach it.
    return memory_->store_release_u16(avail_event(layout_), static_cast<uint16_t>(next_avail_ - 1));
  }
  return memory_->store_release_u16(offset(layout_.used, kRingFlags), kUsedNoNotify);
}

}  // namespace ramet::virtio
