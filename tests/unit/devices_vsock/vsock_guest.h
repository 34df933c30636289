// VsockGuest: the driver's side of a vsock device for tests: rings in guest memory, packets in and
// out. It does nothing on its own: a test plays the guest.
//
// Thread rule: one thread; the device may be used by others meanwhile.
// Invariant: every buffer it gives is taken back in order, as the device must return them.
#ifndef RAMET_TESTS_UNIT_DEVICES_VSOCK_VSOCK_GUEST_H_
#define RAMET_TESTS_UNIT_DEVICES_VSOCK_VSOCK_GUEST_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "devices/vsock/device.h"
#include "devices/vsock/packet.h"
#include "tests/support/virtio_driver.h"
#include "vmm/memory/guest_memory.h"

namespace ramet::testing {

struct GuestPacket {
  vsock::PacketHeader header;
  std::string payload;
};

class FakeEvents final : public virtio::TransportEvents {
 public:
  void queue_interrupt(uint16_t queue) override { ++interrupts[queue]; }
  void config_changed() override {}
  void needs_reset(const Status&) override { ++resets; }

  std::array<std::atomic<int>, 3> interrupts = {};
  std::atomic<int> resets = 0;
};

class VsockGuest {
 public:
  static constexpr uint32_t kRxBufferBytes = 4096 + vsock::kHeaderBytes;

  // A device made by Vsock::create(), not activated.
  explicit VsockGuest(VsockOptions options = {});
  // Another device over the same memory and rings, as a fork's: made from `saved`.
  StatusOr<std::unique_ptr<Vsock>> fork_device(const virtio::SavedDevice& saved,
                                               VsockOptions options) const;

  Vsock& device() { return *device_; }
  void set_device(std::unique_ptr<Vsock> device) { device_ = std::move(device); }
  VsockHost host() { return device_->host(); }
  FakeEvents& events() { return events_; }
  const GuestMemory& memory() const { return *memory_; }

  // Activates with fresh queues, or at saved positions.
  Status activate(const std::vector<uint16_t>& positions = {0, 0, 0});
  // activate(), and all the buffers a driver gives.
  void start();
  void add_rx_buffers(int count, uint32_t bytes = kRxBufferBytes);
  void add_event_buffers(int count);

  // A packet of the guest: from guest_port to host_port, with a credit of peer_buf_alloc.
  vsock::PacketHeader header(vsock::Op op, uint32_t guest_port, uint32_t host_port) const;
  void send(const vsock::PacketHeader& header, std::string_view payload = {});
  void send(vsock::Op op, uint32_t guest_port, uint32_t host_port, std::string_view payload = {});
  // Bytes that are no packet.
  void send_raw(std::string_view bytes);
  // Without telling the device.
  void queue_packet(const vsock::PacketHeader& header, std::string_view payload = {});

  // The next packet for the guest, if one is there; its buffer is given back.
  std::optional<GuestPacket> receive();
  // As receive() without giving the buffer back.
  std::optional<GuestPacket> receive_and_keep();
  // The next event's number; its buffer is kept until add_event_buffers(1).
  std::optional<uint32_t> receive_event();

  DriverQueue& ring(uint16_t index) { return *rings_[index]; }
  // The next used element; asks to be interrupted for the one behind it.
  std::optional<virtio::UsedElement> take_used(uint16_t index);

  uint32_t peer_buf_alloc = 256 * 1024;
  uint32_t peer_fwd_cnt = 0;

 private:
  uint64_t rx_buffer(uint16_t head) const;

  std::unique_ptr<GuestMemory> memory_;
  FakeEvents events_;
  std::array<std::optional<DriverQueue>, 3> rings_;
  std::array<uint16_t, 3> taken_ = {};
  std::unique_ptr<Vsock> device_;
  std::array<uint64_t, 256> rx_address_ = {};
  std::array<uint64_t, 64> event_address_ = {};
  uint64_t next_rx_ = 0;
  uint64_t next_tx_ = 0;
  uint64_t next_event_ = 0;
};

}  // namespace ramet::testing

#endif  // RAMET_TESTS_UNIT_DEVICES_VSOCK_VSOCK_GUEST_H_
