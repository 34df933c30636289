// MmioTransport's saving and restoring.
#include <bit>

#include <absl/strings/str_format.h>

#include "devices/virtio/mmio.h"

namespace ramet::virtio {
namespace {

Status check_queue_sizes(std::span<const uint16_t> sizes) {
  if (sizes.size() > kMaxQueues) {
    return absl::InvalidArgumentError(
        absl::StrFormat("virtio device with %d queues, at most %d", sizes.size(), kMaxQueues));
  }
  for (const uint16_t size : sizes) {
    if (!std::has_single_bit(size) || size > kMaxQueueSize) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "virtio queue of %d entries, must be a power of two of at most %d", size, kMaxQueueSize));
    }
  }
  return Status();
}

// 3.1.1: no bit without those before it.
bool in_order(uint32_t status) {
  const auto implies = [&](uint32_t bit, uint32_t needed) {
    return (status & bit) == 0 || (status & needed) == needed;
  };
  return implies(kStatusDriverOk, kStatusFeaturesOk) && implies(kStatusFeaturesOk, kStatusDriver) &&
         implies(kStatusDriver, kStatusAcknowledge);
}

}  // namespace

StatusOr<std::unique_ptr<MmioTransport>> MmioTransport::create(std::unique_ptr<VirtioDevice> device,
                                                               TransportParts parts) {
  RAMET_RETURN_IF_ERROR(check_queue_sizes(device->queue_max_sizes()));
  return std::unique_ptr<MmioTransport>(new MmioTransport(std::move(device), parts));
}

StatusOr<std::unique_ptr<MmioTransport>> MmioTransport::create_from_state(
    std::unique_ptr<VirtioDevice> device, TransportParts parts, const TransportState& state) {
  RAMET_ASSIGN_OR_RETURN(auto transport, create(std::move(device), parts));
  if (Status status = transport->adopt(state); !status.ok()) {
    return annotate(status, "restore a virtio device");
  }
  return transport;
}

Status MmioTransport::check_state(const TransportState& state) const {
  if (state.type != device_->type()) {
    return absl::InvalidArgumentError(absl::StrFormat("saved for device type %d, this one is %d",
                                                      static_cast<uint32_t>(state.type),
                                                      static_cast<uint32_t>(device_->type())));
  }
  if (state.queues.size() != queues_.size()) {
    return absl::InvalidArgumentError(absl::StrFormat("saved with %d queues, the device has %d",
                                                      state.queues.size(), queues_.size()));
  }
  if ((state.device_features & ~offered_features_) != 0) {
    return absl::FailedPreconditionError(
        absl::StrFormat("features %#x were offered at the save, the device has %#x now",
                        state.device_features, offered_features_));
  }
  const bool negotiated = (state.status & kStatusFeaturesOk) != 0;
  if (!in_order(state.status) || (negotiated && !features_acceptable(state.driver_features)) ||
      ((state.status & kStatusDriver) == 0 && state.driver_features != 0)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("status %#x with features %#x cannot have come about", state.status,
                        state.driver_features));
  }
  return Status();
}

Status MmioTransport::adopt_queue(QueueConfig* queue, const QueueState& saved) const {
  const bool runs = saved.ready && active();
  if (saved.layout.size > queue->max_size() || (saved.ready && !has(kStatusFeaturesOk)) ||
      (saved.position != 0 && !runs)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "size %d (at most %d), ready %d, position %d cannot have come about with status %#x",
        saved.layout.size, queue->max_size(), saved.ready, saved.position, status_));
  }
  *queue->mutable_layout() = saved.layout;
  queue->set_ready(saved.ready);
  return saved.ready ? queue->check(*parts_.memory) : Status();
}

Status MmioTransport::adopt(const TransportState& state) {
  const std::lock_guard lock(mutex_);
  RAMET_RETURN_IF_ERROR(check_state(state));
  status_ = state.status & ~kStatusNeedsReset;
  offered_features_ = state.device_features;
  needs_reset_.store((state.status & kStatusNeedsReset) != 0);
  driver_features_ = state.driver_features;
  device_features_sel_ = state.device_features_sel;
  driver_features_sel_ = state.driver_features_sel;
  queue_sel_ = state.queue_sel;
  interrupt_status_.store(state.interrupt_status);
  config_generation_.store(state.config_generation);
  for (size_t i = 0; i < queues_.size(); ++i) {
    RAMET_RETURN_IF_ERROR(annotate(adopt_queue(&queues_[i], state.queues[i]), "queue %d", i));
  }
  // A device that failed stays inactive until the driver resets it, as notify() is refused.
  if (!active()) {
    return Status();
  }
  RAMET_ASSIGN_OR_RETURN(Activation activation, make_activation(&state.queues));
  return device_->activate(std::move(activation));
}

void MmioTransport::quiesce() {
  const std::lock_guard lock(mutex_);
  device_->quiesce();
}

void MmioTransport::resume() {
  {
    const std::lock_guard lock(mutex_);
    device_->resume();
  }
  if (interrupt_status_.load() != 0) {
    parts_.irq->trigger();
  }
}

StatusOr<TransportState> MmioTransport::save() const {
  const std::lock_guard lock(mutex_);
  RAMET_ASSIGN_OR_RETURN(SavedDevice saved, device_->save());
  TransportState state;
  state.type = device_->type();
  state.device_features = offered_features_;
  state.driver_features = driver_features_;
  state.device_features_sel = device_features_sel_;
  state.driver_features_sel = driver_features_sel_;
  state.queue_sel = queue_sel_;
  state.status = status_ | (needs_reset_.load() ? kStatusNeedsReset : 0);
  state.interrupt_status = interrupt_status_.load();
  state.config_generation = config_generation_.load();
  for (size_t i = 0; i < queues_.size(); ++i) {
    const bool runs = active() && queues_[i].ready() && i < saved.queue_positions.size();
    const uint16_t position = runs ? saved.queue_positions[i] : uint16_t{0};
    state.queues.push_back(QueueState{queues_[i].layout(), queues_[i].ready(), position});
  }
  state.device = std::move(saved.bytes);
  return state;
}

}  // namespace ramet::virtio
