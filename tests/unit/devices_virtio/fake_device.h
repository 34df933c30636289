// A virtio device for the transport's tests: it gives every chain back at once, and says what it
// was asked.
#ifndef RAMET_TESTS_UNIT_DEVICES_VIRTIO_FAKE_DEVICE_H_
#define RAMET_TESTS_UNIT_DEVICES_VIRTIO_FAKE_DEVICE_H_

#include <array>
#include <utility>
#include <vector>

#include "devices/virtio/device.h"

namespace ramet::testing {

class FakeDevice final : public virtio::VirtioDevice {
 public:
  static constexpr uint64_t kFeature = 1 << 5;

  virtio::DeviceType type() const override { return virtio::DeviceType::kEntropy; }
  uint64_t features() const override { return kFeature; }
  std::span<const uint16_t> queue_max_sizes() const override { return kSizes; }
  void read_config(uint64_t offset, std::span<std::byte> into) override {
    virtio::read_config_bytes(config, offset, into);
  }
  void write_config(uint64_t offset, std::span<const std::byte> from) override {
    if (offset < config.size() && from.size() <= config.size() - offset) {
      std::copy(from.begin(), from.end(), config.begin() + static_cast<ptrdiff_t>(offset));
    }
  }
  Status activate(virtio::Activation given) override {
    ++activations;
    if (refuse_activation) {
      return absl::FailedPreconditionError("the fake device was told to refuse");
    }
    activation = std::move(given);
    return Status();
  }
  void notify(uint16_t index) override {
    notified.push_back(index);
    auto& queue = activation.queues[index];
    if (!queue->begin_batch().ok()) {
      activation.events->needs_reset(absl::InvalidArgumentError("broken"));
      return;
    }
    while (true) {
      const auto chain = queue->pop();
      if (!chain.ok() || !*chain) {
        break;
      }
      queue->push_used((*chain)->head(), 0).IgnoreError();
    }
    if (queue->should_interrupt().value_or(false)) {
      activation.events->queue_interrupt(index);
    }
  }
  void reset() override {
    ++resets;
    activation = {};
  }
  void quiesce() override { quiesced = true; }
  void resume() override { quiesced = false; }
  StatusOr<virtio::SavedDevice> save() const override {
    virtio::SavedDevice saved;
    for (const auto& queue : activation.queues) {
      saved.queue_positions.push_back(queue ? queue->position() : uint16_t{0});
    }
    saved.bytes = {std::byte{42}};
    return saved;
  }
  std::vector<virtio::Metric> metrics() const override { return {}; }

  static constexpr std::array<uint16_t, 2> kSizes = {64, 128};
  std::array<std::byte, 12> config = {};
  virtio::Activation activation;
  std::vector<uint16_t> notified;
  int activations = 0;
  int resets = 0;
  bool refuse_activation = false;
  bool quiesced = false;
};

}  // namespace ramet::testing

#endif  // RAMET_TESTS_UNIT_DEVICES_VIRTIO_FAKE_DEVICE_H_
