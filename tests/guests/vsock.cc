// Guests that speak vsock (virtio 1.2, 5.10) as no driver may: credit, lengths, ports, operations.
#include "devices/vsock/connection.h"
#include "devices/vsock/muxer.h"
#include "devices/vsock/packet.h"
#include "tests/guests/guest.h"

namespace ramet::testing {
namespace {

using vsock::Op;

constexpr Ring kRx = {kVsockSlot, 0, 128};
constexpr Ring kTx = {kVsockSlot, 1, 128};
constexpr Ring kEvents = {kVsockSlot, 2, 64};
constexpr uint64_t kPacketRoom = 0x1000;
constexpr uint32_t kHostPort = 1025;
// 5.10.6: where the source port and the operation lie in a header.
constexpr uint64_t kSourcePort = 16;
constexpr uint64_t kOperation = 30;

uint64_t packet_address(uint16_t index) { return kPackets + index * kPacketRoom; }

vsock::PacketHeader header(Op op, uint32_t guest_port = 5000) {
  vsock::PacketHeader made;
  made.src_cid = vsock::kGuestCid;
  made.dst_cid = vsock::kHostCid;
  made.src_port = guest_port;
  made.dst_port = kHostPort;
  made.type = vsock::kTypeStream;
  made.op = op;
  made.buf_alloc = 64 << 10;
  return made;
}

// Descriptor `index` of the transmit queue: the header with `payload` bytes behind it.
void packet(GuestBuilder& guest, uint16_t index, const vsock::PacketHeader& header,
            uint32_t payload = 0) {
  guest.put_object(packet_address(index), vsock::encode_header(header));
  guest.descriptor(
      kTx, index,
      {packet_address(index), static_cast<uint32_t>(vsock::kHeaderBytes) + payload, 0, 0});
}

void receive_buffers(GuestBuilder& guest, uint32_t bytes) {
  for (uint16_t i = 0; i < kRx.size; ++i) {
    guest.descriptor(kRx, i, {kReceiveBuffers + i * kPacketRoom, bytes, virtio::kDescWrite, 0});
  }
  guest.all_available(kRx, kRx.size);
}

// All buffers that the device does not have are available again: avail = used + size.
void refill(GuestBuilder& guest, const Ring& ring) {
  Assembler& code = guest.cpu();
  code.load(ring.used_index(), 2);
  code.bytes({0x66, 0x05});  // add ax, imm16
  code.immediate(ring.size, 2);
  code.store_rax(ring.avail_index(), 2);
  code.store32(device_register(kVsockSlot, virtio::reg::kQueueNotify), ring.queue);
}

// A whole transmit queue of packets a round: packet 0 first, then packet 1 to the end; both from a
// new port each time.
void rounds_of(GuestBuilder& guest, bool new_ports = true) {
  receive_buffers(guest, kPacketRoom);
  for (uint16_t i = 0; i < kTx.size; ++i) {
    guest.available(kTx, i, i == 0 ? 0 : 1);
  }
  guest.bring_up({kRx, kTx, kEvents});
  guest.cpu().forever([&] {
    guest.submit(kTx, kTx.size);
    const size_t again = guest.cpu().here();
    refill(guest, kRx);
    // Until all packets are taken; answers need receive buffers meanwhile.
    guest.cpu().load(kTx.used_index(), 2);
    guest.cpu().bytes({0x48, 0xbe});  // mov rsi, imm64
    guest.cpu().immediate(kTx.avail_index(), 8);
    guest.cpu().bytes({0x66, 0x3b, 0x06});  // cmp ax, [rsi]
    guest.cpu().jump_back({0x0f, 0x85}, again);
    if (new_ports) {
      guest.cpu().add32(packet_address(0) + kSourcePort, 1);
      guest.cpu().add32(packet_address(1) + kSourcePort, 1);
    }
    guest.round();
  });
}

void connects_by_the_thousand(GuestBuilder& guest) {
  packet(guest, 0, header(Op::kRequest));
  receive_buffers(guest, kPacketRoom);
  guest.all_available(kTx, 1);
  guest.bring_up({kRx, kTx, kEvents});
  guest.cpu().forever([&] {
    guest.submit(kTx);
    refill(guest, kRx);
    guest.wait_used(kTx);
    guest.cpu().add32(packet_address(0) + kSourcePort, 1);
    guest.round();
  });
}

void sends_beyond_its_credit(GuestBuilder& guest) {
  vsock::PacketHeader data = header(Op::kRw);
  data.len = 4000;
  packet(guest, 0, header(Op::kRequest));
  packet(guest, 1, data, 4000);
  rounds_of(guest);
}

void claims_what_was_not_sent(GuestBuilder& guest) {
  vsock::PacketHeader lie = header(Op::kCreditUpdate);
  lie.fwd_cnt = 1;
  packet(guest, 0, header(Op::kRequest));
  packet(guest, 1, lie);
  rounds_of(guest);
}

void opens_with_a_lie(GuestBuilder& guest) {
  vsock::PacketHeader lie = header(Op::kRequest);
  lie.fwd_cnt = 0x7fff'ffff;
  packet(guest, 0, lie);
  packet(guest, 1, lie);
  rounds_of(guest);
}

void lengths_that_are_not_there(GuestBuilder& guest) {
  vsock::PacketHeader data = header(Op::kRw);
  data.len = 0xffff'ffff;
  packet(guest, 0, header(Op::kRequest));
  packet(guest, 1, data, 16);
  rounds_of(guest);
}

void operations_that_are_none(GuestBuilder& guest) {
  packet(guest, 0, header(Op::kRequest));
  packet(guest, 1, header(static_cast<Op>(8)));
  rounds_of(guest);
}

void every_operation(GuestBuilder& guest) {
  packet(guest, 0, header(Op::kRequest));
  packet(guest, 1, header(Op::kInvalid));
  receive_buffers(guest, kPacketRoom);
  guest.all_available(kTx, 2);
  guest.bring_up({kRx, kTx, kEvents});
  guest.cpu().forever([&] {
    guest.submit(kTx, 2);
    refill(guest, kRx);
    guest.wait_used(kTx);
    guest.cpu().add16(packet_address(1) + kOperation, 1);
    guest.round();
  });
}

void types_that_are_none(GuestBuilder& guest) {
  vsock::PacketHeader other = header(Op::kRequest);
  other.type = 2;
  packet(guest, 0, other);
  packet(guest, 1, other);
  rounds_of(guest);
}

void resets_without_end(GuestBuilder& guest) {
  packet(guest, 0, header(Op::kRequest));
  packet(guest, 1, header(Op::kRst));
  rounds_of(guest);
}

void shuts_down_without_end(GuestBuilder& guest) {
  vsock::PacketHeader shut = header(Op::kShutdown);
  shut.flags = 0xffff'ffff;
  packet(guest, 0, header(Op::kRequest));
  packet(guest, 1, shut);
  rounds_of(guest);
}

void asks_for_credit_without_end(GuestBuilder& guest) {
  packet(guest, 0, header(Op::kRequest));
  packet(guest, 1, header(Op::kCreditRequest));
  rounds_of(guest, false);
}

void talks_to_nobody(GuestBuilder& guest) {
  packet(guest, 0, header(Op::kRw));
  packet(guest, 1, header(Op::kRw));
  rounds_of(guest);
}

void is_somebody_else(GuestBuilder& guest) {
  vsock::PacketHeader other = header(Op::kRequest);
  other.src_cid = 77;
  packet(guest, 0, other);
  other = header(Op::kRequest);
  other.dst_cid = ~uint64_t{0};
  packet(guest, 1, other);
  rounds_of(guest);
}

void half_headers(GuestBuilder& guest) {
  packet(guest, 0, header(Op::kRw));
  guest.descriptor(kTx, 1, {packet_address(1), 10, 0, 0});
  rounds_of(guest);
}

// It sends, and takes no answer.
void takes_no_answer(GuestBuilder& guest) {
  packet(guest, 0, header(Op::kRw));
  guest.all_available(kTx, 1);
  guest.bring_up({kRx, kTx, kEvents});
  guest.cpu().forever([&] {
    guest.cpu().add32(packet_address(0) + kSourcePort, 1);
    refill(guest, kTx);
    guest.round();
  });
}

void takes_answers_in_a_byte(GuestBuilder& guest) {
  packet(guest, 0, header(Op::kRw));
  receive_buffers(guest, 1);
  guest.all_available(kTx, 1);
  guest.bring_up({kRx, kTx, kEvents});
  guest.cpu().forever([&] {
    guest.cpu().add32(packet_address(0) + kSourcePort, 1);
    refill(guest, kTx);
    refill(guest, kRx);
    guest.round();
  });
}

void listens(VsockHost& host) { host.listen(kHostPort).IgnoreError(); }

std::string few_connections(const VsockMetrics& metrics) {
  return metrics.connections <= vsock::kMaxBacklog
             ? ""
             : std::to_string(metrics.connections) + " connections are open";
}

// The device saw what the guest is named for, and keeps few connections.
template <uint64_t VsockMetrics::*counter>
std::string counted(Instance& instance) {
  const VsockMetrics metrics = instance.vsock().metrics();
  return metrics.*counter > 0 ? few_connections(metrics) : "the device has not noticed";
}

}  // namespace

HostileGuests vsock_guests() {
  const Promise promise = {.memory_bytes = 24 << 20};
  using M = VsockMetrics;
  const auto row = [&](const char* name, void (*write)(GuestBuilder&),
                       std::string (*proof)(Instance&)) {
    return HostileGuest{.name = name,
                        .write = write,
                        .promise = promise,
                        .rounds = 20,
                        .host = listens,
                        .proof = proof};
  };
  HostileGuests guests = {
      row("connects by the thousand", connects_by_the_thousand, counted<&M::refused>),
      row("sends beyond its credit", sends_beyond_its_credit, counted<&M::credit_violations>),
      row("claims bytes that were not sent", claims_what_was_not_sent,
          counted<&M::credit_violations>),
      row("opens connections with a credit lie", opens_with_a_lie, counted<&M::credit_violations>),
      row("names lengths that are not there", lengths_that_are_not_there, counted<&M::malformed>),
      row("sends operations that are none", operations_that_are_none, counted<&M::malformed>),
      row("sends every operation there could be", every_operation, counted<&M::malformed>),
      row("sends packets of another type", types_that_are_none, counted<&M::malformed>),
      row("sends resets without end", resets_without_end, counted<&M::resets_received>),
      row("shuts down without end", shuts_down_without_end, counted<&M::resets_sent>),
      row("asks for credit without end", asks_for_credit_without_end, counted<&M::rx_packets>),
      row("talks to nobody", talks_to_nobody, counted<&M::resets_sent>),
      row("says that it is somebody else", is_somebody_else, counted<&M::foreign_cid>),
      row("sends half packet headers", half_headers, counted<&M::bad_buffers>),
      row("sends and takes no answer", takes_no_answer, counted<&M::tx_pauses>),
      row("takes answers in buffers of a byte", takes_answers_in_a_byte, counted<&M::bad_buffers>),
  };
  guests[0].rounds = 5000;
  return guests;
}

}  // namespace ramet::testing
