#include "devices/vsock/state.h"

#include "devices/virtio/queue_config.h"
#include "devices/vsock/muxer.h"
#include "vmm/state/codec.h"

namespace ramet::vsock {
namespace {

constexpr uint8_t kVersion = 1;

// The numbers that reach the file.
static_assert(static_cast<int>(ResetEvent::kNone) == 0);
static_assert(static_cast<int>(ResetEvent::kDue) == 1);
static_assert(static_cast<int>(ResetEvent::kGiven) == 2);
static_assert(static_cast<int>(ResetEvent::kNotNeeded) == 3);
static_assert(kFirstDynamicPort == 65536);

}  // namespace

std::vector<std::byte> encode_vsock_state(const VsockState& state) {
  Encoder encoder;
  encoder.number(kVersion);
  encoder.number(static_cast<uint8_t>(state.active));
  encoder.number(state.reset_event);
  encoder.number(state.event_buffers);
  encoder.number(state.next_port);
  return encoder.take();
}

StatusOr<VsockState> decode_vsock_state(std::span<const std::byte> bytes) {
  Decoder decoder(bytes, "vsock device");
  decoder.bounded<uint8_t>(kVersion, kVersion, "version");
  VsockState state;
  state.active = decoder.boolean("active");
  state.reset_event = static_cast<ResetEvent>(decoder.bounded<uint8_t>(0, 3, "reset event"));
  state.event_buffers = decoder.bounded<uint16_t>(0, virtio::kMaxQueueSize, "event buffers");
  state.next_port = decoder.bounded<uint32_t>(kFirstDynamicPort, 0xfffffffe, "next host port");
  RAMET_RETURN_IF_ERROR(decoder.finish());
  return state;
}

}  // namespace ramet::vsock
