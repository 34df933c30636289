#include "devices/virtio/mmio.h"

#include <algorithm>
#include <cstring>
#include <string>

#include <absl/strings/str_cat.h>

namespace ramet::virtio {
namespace {

constexpr uint32_t kVendor = 0x544d4152;  // "RAMT"; 4.2.2 leaves it to us
constexpr uint64_t kTransportFeatures = kFeatureVersion1 | kFeatureIndirectDesc | kFeatureEventIdx;

uint32_t half(uint64_t value, uint32_t select) {
  return select > 1 ? 0 : static_cast<uint32_t>(value >> (32 * select));
}

uint64_t with_half(uint64_t value, bool high, uint32_t part) {
  return high ? (value & 0xffffffff) | (uint64_t{part} << 32) : (value & ~0xffffffffull) | part;
}

}  // namespace

MmioTransport::MmioTransport(std::unique_ptr<VirtioDevice> device, TransportParts parts)
    : device_(std::move(device)),
      parts_(parts),
      offered_features_(device_->features() | kTransportFeatures) {
  for (const uint16_t max_size : device_->queue_max_sizes()) {
    queues_.emplace_back(max_size);
  }
}

// The device's threads call TransportEvents until it is back to Inactive.
MmioTransport::~MmioTransport() { device_->reset(); }

bool MmioTransport::features_acceptable(uint64_t features) const {
  return (features & ~offered_features_) == 0 && (features & kFeatureVersion1) != 0;
}

QueueConfig* MmioTransport::selected_queue() {
  return queue_sel_ < queues_.size() ? &queues_[queue_sel_] : nullptr;
}

// 4.2.2.2: control registers are read and written as aligned 32-bit words, configuration space in
// any width.
void MmioTransport::bus_read(uint64_t offset, std::span<std::byte> data) {
  if (offset >= reg::kConfig) {
    const std::lock_guard lock(mutex_);
    device_->read_config(offset - reg::kConfig, data);
    return;
  }
  std::fill(data.begin(), data.end(), std::byte{0});
  if (data.size() != sizeof(uint32_t) || offset % sizeof(uint32_t) != 0) {
    refuse();
    return;
  }
  const uint32_t value = read_register(offset);
  std::memcpy(data.data(), &value, sizeof(value));
}

void MmioTransport::bus_write(uint64_t offset, std::span<const std::byte> data) {
  if (offset == reg::kInterruptAck && data.size() == sizeof(uint32_t)) {
    uint32_t bits = 0;
    std::memcpy(&bits, data.data(), sizeof(bits));
    interrupt_status_.fetch_and(~bits);
    return;
  }
  const std::lock_guard lock(mutex_);
  if (offset >= reg::kConfig) {
    // 2.5.3 and 3.1.1: the driver reads and writes the space once it has set DRIVER.
    if (!has(kStatusDriver)) {
      return refuse();
    }
    return device_->write_config(offset - reg::kConfig, data);
  }
  if (data.size() != sizeof(uint32_t) || offset % sizeof(uint32_t) != 0) {
    refuse();
    return;
  }
  uint32_t value = 0;
  std::memcpy(&value, data.data(), sizeof(value));
  write_register(offset, value);
}

uint32_t MmioTransport::read_register(uint64_t offset) {
  switch (offset) {
    case reg::kMagicValue:
      return kMmioMagic;
    case reg::kVersion:
      return kMmioVersion;
    case reg::kDeviceId:
      return static_cast<uint32_t>(device_->type());
    case reg::kVendorId:
      return kVendor;
    case reg::kInterruptStatus:
      return interrupt_status_.load();
    case reg::kConfigGeneration:
      return config_generation_.load();
    case reg::kShmLenLow:
    case reg::kShmLenHigh:
    case reg::kShmBaseLow:
    case reg::kShmBaseHigh:
      return ~0u;  // 4.2.2: a region that does not exist has length -1
    default:
      break;
  }
  const std::lock_guard lock(mutex_);
  const QueueConfig* queue = selected_queue();
  switch (offset) {
    case reg::kDeviceFeatures:
      return half(offered_features_, device_features_sel_);
    case reg::kQueueNumMax:
      return queue == nullptr ? 0 : queue->max_size();
    case reg::kQueueReady:
      return queue != nullptr && queue->ready() ? 1 : 0;
    case reg::kStatus:
      return status_ | (needs_reset_.load() ? kStatusNeedsReset : 0);
    case reg::kQueueReset:  // VIRTIO_F_RING_RESET is not offered
      return 0;
    default:
      refuse();  // write-only or reserved
      return 0;
  }
}

void MmioTransport::write_register(uint64_t offset, uint32_t value) {
  switch (offset) {
    case reg::kDeviceFeaturesSel:
      device_features_sel_ = value;
      return;
    case reg::kDriverFeaturesSel:
    case reg::kDriverFeatures:
      return write_feature_register(offset, value);
    case reg::kQueueSel:
      queue_sel_ = value;
      return;
    case reg::kQueueNotify:
      return notify(value);
    case reg::kStatus:
      return write_status(value);
    case reg::kShmSel:
      return;
    default:
      return write_queue_register(offset, value);
  }
}

void MmioTransport::write_feature_register(uint64_t offset, uint32_t value) {
  if (offset == reg::kDriverFeaturesSel) {
    driver_features_sel_ = value;
    return;
  }
  // 3.1.1: features are written between DRIVER and FEATURES_OK; 2.2: never after FEATURES_OK.
  if (!has(kStatusDriver) || has(kStatusFeaturesOk)) {
    return refuse();
  }
  if (driver_features_sel_ <= 1) {
    driver_features_ = with_half(driver_features_, driver_features_sel_ == 1, value);
  } else {
    refuse_unless(value == 0);
  }
}

void MmioTransport::write_queue_register(uint64_t offset, uint32_t value) {
  QueueConfig* queue = selected_queue();
  // 3.1.1, steps 6 to 8: virtqueues are set up between FEATURES_OK and DRIVER_OK; 4.2.2.2: not
  // while the queue is ready.
  if (queue == nullptr || !has(kStatusFeaturesOk) || has(kStatusDriverOk)) {
    // A driver that takes its queues down writes 0 to queues that a reset made unready before.
    const bool harmless = offset == reg::kQueueReady && value == 0 && queue != nullptr;
    return refuse_unless(harmless && !queue->ready());
  }
  if (offset == reg::kQueueReady) {
    return set_queue_ready(queue, value);
  }
  if (queue->ready()) {
    return refuse();
  }
  if (offset == reg::kQueueNum) {
    // 0 stands for a size that no queue has: QueueReady is refused then.
    const bool fits = value <= queue->max_size();
    queue->mutable_layout()->size = fits ? static_cast<uint16_t>(value) : uint16_t{0};
    return refuse_unless(fits);
  }
  write_queue_address(queue->mutable_layout(), offset, value);
}

void MmioTransport::write_queue_address(QueueLayout* layout, uint64_t offset, uint32_t value) {
  const auto set = [&](GuestAddr* address, bool high) {
    address->value = with_half(address->value, high, value);
  };
  switch (offset) {
    case reg::kQueueDescLow:
    case reg::kQueueDescHigh:
      return set(&layout->desc, offset == reg::kQueueDescHigh);
    case reg::kQueueDriverLow:
    case reg::kQueueDriverHigh:
      return set(&layout->avail, offset == reg::kQueueDriverHigh);
    case reg::kQueueDeviceLow:
    case reg::kQueueDeviceHigh:
      return set(&layout->used, offset == reg::kQueueDeviceHigh);
    default:
      return refuse();
  }
}

void MmioTransport::set_queue_ready(QueueConfig* queue, uint32_t value) {
  if (value == 0) {
    queue->set_ready(false);
    return;
  }
  const Status status = queue->check(*parts_.memory);
  if (value != 1 || !status.ok()) {
    return refuse();  // QueueReady reads 0: the driver sees that the queue was not taken
  }
  queue->set_ready(true);
}

// 2.1 and 3.1.1. The driver only ever adds bits, in the order ACKNOWLEDGE, DRIVER, FEATURES_OK,
// DRIVER_OK; writing 0 resets. A bit whose predecessors are missing is not taken.
void MmioTransport::write_status(uint32_t value) {
  if (value == 0) {
    return reset();
  }
  value &= ~kStatusNeedsReset;  // the device's own bit: drivers write back what they read
  const uint32_t known =
      kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk | kStatusDriverOk | kStatusFailed;
  if ((status_ & ~value) != 0 || (value & ~known) != 0) {
    return refuse();
  }
  const uint32_t added = value & ~status_;
  status_ |= added & (kStatusFailed | kStatusAcknowledge);
  if ((added & kStatusDriver) != 0 && has(kStatusAcknowledge)) {
    status_ |= kStatusDriver;
  }
  if ((added & kStatusFeaturesOk) != 0 && has(kStatusDriver) &&
      features_acceptable(driver_features_)) {
    status_ |= kStatusFeaturesOk;
  }
  if ((added & kStatusDriverOk) != 0 && has(kStatusFeaturesOk)) {
    activate();
  }
  refuse_unless((value & ~status_) == 0);
}

StatusOr<Activation> MmioTransport::make_activation(const std::vector<QueueState>* positions) {
  Activation activation{parts_.memory, driver_features_, {}, this};
  const QueueFeatures features{(driver_features_ & kFeatureIndirectDesc) != 0,
                               (driver_features_ & kFeatureEventIdx) != 0};
  for (size_t i = 0; i < queues_.size(); ++i) {
    if (!queues_[i].ready()) {
      activation.queues.emplace_back();
      continue;
    }
    auto queue = positions == nullptr
                     ? queues_[i].activate(parts_.memory, features)
                     : queues_[i].activate_at(parts_.memory, features, (*positions)[i].position);
    if (!queue.ok()) {
      return annotate(queue.status(), absl::StrCat("queue ", i));
    }
    activation.queues.emplace_back(*std::move(queue));
  }
  return activation;
}

void MmioTransport::activate() {
  status_ |= kStatusDriverOk;
  auto activation = make_activation(nullptr);
  const Status status =
      activation.ok() ? device_->activate(*std::move(activation)) : activation.status();
  if (!status.ok()) {
    needs_reset(status);
  }
}

void MmioTransport::notify(uint32_t queue) {
  if (!has(kStatusDriverOk) || needs_reset_.load() || queue >= queues_.size() ||
      !queues_[queue].ready()) {
    return refuse();
  }
  notifications_.fetch_add(1, std::memory_order_relaxed);
  device_->notify(static_cast<uint16_t>(queue));
}

// 2.4: after it, the device is as it was first made. ConfigGeneration goes on counting: it says
// whether two reads of the space fit together, whatever lies between them.
void MmioTransport::reset() {
  device_->reset();
  status_ = 0;
  driver_features_ = 0;
  device_features_sel_ = 0;
  driver_features_sel_ = 0;
  queue_sel_ = 0;
  for (QueueConfig& queue : queues_) {
    queue = QueueConfig(queue.max_size());
  }
  interrupt_status_.store(0);
  needs_reset_.store(false);
}

void MmioTransport::queue_interrupt(uint16_t) {
  interrupt_status_.fetch_or(kInterruptUsedRing);
  interrupts_.fetch_add(1, std::memory_order_relaxed);
  parts_.irq->trigger();
}

void MmioTransport::config_changed() {
  config_generation_.fetch_add(1);
  interrupt_status_.fetch_or(kInterruptConfig);
  interrupts_.fetch_add(1, std::memory_order_relaxed);
  parts_.irq->trigger();
}

void MmioTransport::needs_reset(const Status& why) {
  needs_reset_.store(true);
  failures_.fetch_add(1, std::memory_order_relaxed);
  if (parts_.log != nullptr) {
    parts_.log->rate_limited_log(
        LogLevel::kWarning,
        absl::StrCat("virtio device of type ", static_cast<uint32_t>(device_->type()),
                     " needs a reset: ", why.ToString()));
  }
  config_changed();
}

TransportMetrics MmioTransport::metrics() const {
  return {notifications_.load(), interrupts_.load(), refused_.load(), failures_.load()};
}

}  // namespace ramet::virtio
