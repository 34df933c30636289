#include "devices/virtio/state.h"

#include <bit>

#include <absl/strings/str_format.h>

#include "devices/virtio/device.h"
#include "vmm/state/codec.h"

namespace ramet::virtio {
namespace {

constexpr uint32_t kKnownStatus = kStatusAcknowledge | kStatusDriver | kStatusDriverOk |
                                  kStatusFeaturesOk | kStatusNeedsReset | kStatusFailed;
constexpr uint32_t kKnownInterrupts = kInterruptUsedRing | kInterruptConfig;

DeviceType decode_type(Decoder* in) {
  const auto type = static_cast<DeviceType>(in->number<uint32_t>());
  switch (type) {
    case DeviceType::kNet:
    case DeviceType::kBlock:
    case DeviceType::kConsole:
    case DeviceType::kEntropy:
    case DeviceType::kBalloon:
    case DeviceType::kVsock:
      return type;
    case DeviceType::kNone:
      break;
  }
  in->fail(absl::DataLossError(
      absl::StrFormat("virtio state: unknown device type %d", static_cast<uint32_t>(type))));
  return DeviceType::kNone;
}

uint32_t decode_bits(Decoder* in, uint32_t known, const char* name) {
  const auto value = in->number<uint32_t>();
  if ((value & ~known) != 0) {
    in->fail(absl::DataLossError(
        absl::StrFormat("virtio state: %s %#x has bits outside %#x", name, value, known)));
    return 0;
  }
  return value;
}

QueueState decode_queue(Decoder* in) {
  QueueState queue;
  queue.layout.size = in->bounded<uint16_t>(0, kMaxQueueSize, "queue size");
  queue.layout.desc.value = in->number<uint64_t>();
  queue.layout.avail.value = in->number<uint64_t>();
  queue.layout.used.value = in->number<uint64_t>();
  queue.ready = in->boolean("queue ready");
  queue.position = in->number<uint16_t>();
  return queue;
}

}  // namespace

std::vector<std::byte> encode_transport_state(const TransportState& state) {
  Encoder out;
  out.number(static_cast<uint32_t>(state.type));
  out.number(state.device_features);
  out.number(state.driver_features);
  out.number(state.device_features_sel);
  out.number(state.driver_features_sel);
  out.number(state.queue_sel);
  out.number(state.status);
  out.number(state.interrupt_status);
  out.number(state.config_generation);
  out.number(static_cast<uint8_t>(state.queues.size()));
  for (const QueueState& queue : state.queues) {
    out.number(queue.layout.size);
    out.number(queue.layout.desc.value);
    out.number(queue.layout.avail.value);
    out.number(queue.layout.used.value);
    out.number(static_cast<uint8_t>(queue.ready));
    out.number(queue.position);
  }
  out.blob(state.device);
  return out.take();
}

StatusOr<TransportState> decode_transport_state(std::span<const std::byte> bytes) {
  Decoder in(bytes, "virtio state");
  TransportState state;
  state.type = decode_type(&in);
  state.device_features = in.number<uint64_t>();
  state.driver_features = in.number<uint64_t>();
  state.device_features_sel = in.number<uint32_t>();
  state.driver_features_sel = in.number<uint32_t>();
  state.queue_sel = in.number<uint32_t>();
  state.status = decode_bits(&in, kKnownStatus, "status");
  state.interrupt_status = decode_bits(&in, kKnownInterrupts, "interrupt status");
  state.config_generation = in.number<uint32_t>();
  const auto queues = in.bounded<uint8_t>(0, kMaxQueues, "number of queues");
  for (uint8_t i = 0; i < queues && in.ok(); ++i) {
    state.queues.push_back(decode_queue(&in));
  }
  const auto device = in.blob(kMaxDeviceStateBytes, "device state size");
  state.device.assign(device.begin(), device.end());
  RAMET_RETURN_IF_ERROR(in.finish());
  return state;
}

}  // namespace ramet::virtio
