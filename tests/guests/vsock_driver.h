// The driver's side of the vsock device for hand-made guests: rings, packets, and what puts buffers
// back.
//
// Thread rule: as GuestBuilder.
// Invariant: descriptor i of the receive queue has buffer i, descriptor i of the transmit queue
// packet i, each in a page of its own unless said otherwise.
#ifndef RAMET_TESTS_GUESTS_VSOCK_DRIVER_H_
#define RAMET_TESTS_GUESTS_VSOCK_DRIVER_H_

#include <cstdint>

#include "devices/vsock/packet.h"
#include "tests/guests/builder.h"

namespace ramet::testing {

inline constexpr Ring kVsockRx = {kVsockSlot, 0, 128};
inline constexpr Ring kVsockTx = {kVsockSlot, 1, 128};
inline constexpr Ring kVsockEvents = {kVsockSlot, 2, 64};
inline constexpr uint64_t kPacketRoom = 0x1000;
// The host's port that the guests here talk to.
inline constexpr uint32_t kHostPort = 1025;
// 5.10.6: where fields lie in a packet's header.
inline constexpr uint64_t kSourcePortOffset = 16;
inline constexpr uint64_t kTargetPortOffset = 20;
inline constexpr uint64_t kOperationOffset = 30;

inline uint64_t packet_address(uint16_t index) { return kPackets + index * kPacketRoom; }

// A packet from the guest's port 5000 to kHostPort, with a credit of 64 KiB.
vsock::PacketHeader packet_header(vsock::Op op);
// Packet `index`: the header with `payload` bytes behind it.
void put_packet(GuestBuilder& guest, uint16_t index, const vsock::PacketHeader& header,
                uint32_t payload = 0);
// Receive buffers of so many bytes, all of them in the available ring's entries.
void put_receive_buffers(GuestBuilder& guest, uint32_t bytes);
// All buffers that the device does not have become available again: avail = used + size. In rax.
void refill(GuestBuilder& guest, const Ring& ring);
// Refills the receive queue until the device has taken all packets that were submitted.
void wait_sent(GuestBuilder& guest);

}  // namespace ramet::testing

#endif  // RAMET_TESTS_GUESTS_VSOCK_DRIVER_H_
