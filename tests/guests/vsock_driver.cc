#include "tests/guests/vsock_driver.h"

namespace ramet::testing {

vsock::PacketHeader packet_header(vsock::Op op) {
  vsock::PacketHeader made;
  made.src_cid = vsock::kGuestCid;
  made.dst_cid = vsock::kHostCid;
  made.src_port = 5000;
  made.dst_port = kHostPort;
  made.type = vsock::kTypeStream;
  made.op = op;
  made.buf_alloc = 64 << 10;
  return made;
}

void put_packet(GuestBuilder& guest, uint16_t index, const vsock::PacketHeader& header,
                uint32_t payload) {
  const auto bytes = static_cast<uint32_t>(vsock::kHeaderBytes) + payload;
  guest.put_object(packet_address(index), vsock::encode_header(header));
  guest.descriptor(kVsockTx, index, {packet_address(index), bytes, 0, 0});
}

void put_receive_buffers(GuestBuilder& guest, uint32_t bytes) {
  for (uint16_t i = 0; i < kVsockRx.size; ++i) {
    guest.descriptor(kVsockRx, i,
                     {kReceiveBuffers + i * kPacketRoom, bytes, virtio::kDescWrite, 0});
  }
  guest.all_available(kVsockRx, kVsockRx.size);
}

void refill(GuestBuilder& guest, const Ring& ring) {
  Assembler& code = guest.cpu();
  code.load(ring.used_index(), 2);
  code.bytes({0x66, 0x05});  // add ax, imm16
  code.immediate(ring.size, 2);
  code.store_rax(ring.avail_index(), 2);
  code.store32(device_register(kVsockSlot, virtio::reg::kQueueNotify), ring.queue);
}

void wait_sent(GuestBuilder& guest) {
  Assembler& code = guest.cpu();
  const size_t again = code.here();
  refill(guest, kVsockRx);
  code.load(kVsockTx.used_index(), 2);
  code.bytes({0x48, 0xbe});  // mov rsi, imm64
  code.immediate(kVsockTx.avail_index(), 8);
  code.bytes({0x66, 0x3b, 0x06});  // cmp ax, [rsi]
  code.jump_back({0x0f, 0x85}, again);
}

}  // namespace ramet::testing
