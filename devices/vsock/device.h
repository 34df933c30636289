// Vsock: the virtio socket device (virtio 1.2, 5.10), whose other end is this process: VsockHost.
//
// A fork's guest still believes in its template's connections, so where there were any the first
// thing a restored device gives it is a TRANSPORT_RESET event (5.10.6.7). Linux handles events and
// packets in two work items that run concurrently (net/vmw_vsock/virtio_transport.c: event_work and
// rx_work), and the handler of the event resets every connected socket, those too that were
// connected after the event was queued. So no packet goes out until the guest has handled it:
// virtio_transport_event_work() puts the event's buffer back into the available ring after it has
// handled the event, and the device holds its packets until the event queue offers more buffers
// than when the event was given.
//
// Thread rule: as virtio::VirtioDevice; no thread of its own. Packets are moved on the vCPU thread
// at the notification, and on the host's threads inside VsockHost and VsockStream.
// The guest is interrupted for packets that it has sent, so that it frees them. On connections that
// the host opened nobody waits for that: it waits for the next packet to the guest, whose interrupt
// is the same (virtio-mmio has one), or for a quarter of the queue: 2.7.7.2 has that it is told,
// and not when. The guest of a connection of its own may wait for it (MSG_ZEROCOPY) and is
// interrupted at once.
//
// Invariant: work per notification is bounded by the queues' sizes; nothing waits for the guest.
// When the guest gives no receive buffers, its own packets stay in its queue once kMaxPendingResets
// answers wait.
#ifndef RAMET_DEVICES_VSOCK_DEVICE_H_
#define RAMET_DEVICES_VSOCK_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "devices/virtio/device.h"
#include "devices/vsock/core.h"
#include "devices/vsock/host.h"
#include "devices/vsock/state.h"
#include "vmm/base/status.h"

namespace ramet {

struct VsockOptions {
  // Moves the first host port on by this much: different in every fork, so that a guest that keeps
  // an old socket does not meet its port again. On top of it a restored device starts behind every
  // port its ancestors used.
  uint32_t host_port_offset = 0;
  // Connections open at once, of both directions; at most vsock::kMaxConnections. 0: as many.
  uint32_t max_connections = 0;
};

class Vsock final : public virtio::VirtioDevice, private vsock::PacketPort {
 public:
  static constexpr uint16_t kRxQueue = 0;  // 5.10.2
  static constexpr uint16_t kTxQueue = 1;
  static constexpr uint16_t kEventQueue = 2;

  static std::unique_ptr<Vsock> create(const VsockOptions& options);
  // From SavedDevice::bytes. DataLoss.
  static StatusOr<std::unique_ptr<Vsock>> create_from_state(const VsockOptions& options,
                                                            std::span<const std::byte> bytes);
  // Ends the host's side as shutdown_all(Cancelled) would.
  ~Vsock() override;

  VsockHost host() const { return VsockHost(core_); }

  virtio::DeviceType type() const override { return virtio::DeviceType::kVsock; }
  uint64_t features() const override { return 0; }
  std::span<const uint16_t> queue_max_sizes() const override;
  void read_config(uint64_t offset, std::span<std::byte> into) override;
  void write_config(uint64_t, std::span<const std::byte>) override {}  // read-only
  Status activate(virtio::Activation activation) override;
  void notify(uint16_t index) override;
  void reset() override;
  void quiesce() override;
  void resume() override;
  StatusOr<virtio::SavedDevice> save() const override;
  std::vector<virtio::Metric> metrics() const override;

 private:
  enum class Phase : uint8_t { kInactive, kRunning, kQuiesced, kFailed };
  struct Queues {
    virtio::Queue rx;
    virtio::Queue tx;
    virtio::Queue event;
  };

  Vsock(uint32_t first_port, uint32_t max_connections, const vsock::VsockState& restored);

  void pump() override;
  // The next three with the core locked and queues there. Errors mean a broken ring.
  // Everything there is to do; `look` at the transmit queue when the driver may have added to it.
  Status work(bool look);
  // As saved: whether what is restored from it has to give the event.
  vsock::ResetEvent reset_event_to_come() const;
  // Gives the reset event, or sees whether the guest has returned it.
  Status settle_reset_event();
  Status give_reset_event();
  // Takes the guest's packets; false when it stopped because too many answers wait.
  StatusOr<bool> receive();
  void receive_chain(const virtio::Chain& chain);
  // Gives packets to the guest until there is no more to give, or no buffer.
  Status transmit();
  // The next buffer of the guest for a packet; nothing when it has none.
  StatusOr<std::optional<virtio::Chain>> next_rx_buffer();
  // The bytes that reached the guest; 0 when the buffer is too small for any packet.
  uint32_t fill(const virtio::Chain& chain);
  // Once for all queues: InterruptStatus (4.2.2) does not say which of them it is of.
  Status interrupt();
  // Ends the device where `status` is an error.
  void judge(const Status& status);
  void run(bool look);

  const std::shared_ptr<vsock::Core> core_;
  // All below with the core's mutex.
  Phase phase_ = Phase::kInactive;
  // Made from saved state and not yet activated: activate() goes to Quiesced.
  bool restored_ = false;
  std::optional<Queues> queues_;
  virtio::TransportEvents* events_ = nullptr;
  vsock::ResetEvent reset_event_ = vsock::ResetEvent::kNone;
  uint16_t event_buffers_ = 0;
  bool tx_paused_ = false;
  bool tx_awaited_ = false;  // somebody may wait to be told of what was taken from the guest
};

}  // namespace ramet

#endif  // RAMET_DEVICES_VSOCK_DEVICE_H_
