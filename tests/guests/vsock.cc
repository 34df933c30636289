// Guests that speak vsock (virtio 1.2, 5.10) as no driver may: credit, lengths, ports, operations.
#include "devices/vsock/connection.h"
#include "devices/vsock/muxer.h"
#include "devices/vsock/packet.h"
#include "tests/guests/guest.h"
#include "tests/guests/vsock_driver.h"

namespace ramet::testing {
namespace {

using vsock::Op;

// A whole transmit queue of packets a round: packet 0 first, then packet 1 to the end; both from a
// new port each time.
void rounds_of(GuestBuilder& guest, bool new_ports = true) {
  put_receive_buffers(guest, kPacketRoom);
  for (uint16_t i = 0; i < kVsockTx.size; ++i) {
    guest.available(kVsockTx, i, i == 0 ? 0 : 1);
  }
  guest.bring_up({kVsockRx, kVsockTx, kVsockEvents});
  guest.cpu().forever([&] {
    guest.submit(kVsockTx, kVsockTx.size);
    wait_sent(guest);
    if (new_ports) {
      guest.cpu().add32(packet_address(0) + kSourcePortOffset, 1);
      guest.cpu().add32(packet_address(1) + kSourcePortOffset, 1);
    }
    guest.round();
  });
}

void connects_by_the_thousand(GuestBuilder& guest) {
  put_packet(guest, 0, packet_header(Op::kRequest));
  put_receive_buffers(guest, kPacketRoom);
  guest.all_available(kVsockTx, 1);
  guest.bring_up({kVsockRx, kVsockTx, kVsockEvents});
  guest.cpu().forever([&] {
    guest.submit(kVsockTx);
    refill(guest, kVsockRx);
    guest.wait_used(kVsockTx);
    guest.cpu().add32(packet_address(0) + kSourcePortOffset, 1);
    guest.round();
  });
}

void sends_beyond_its_credit(GuestBuilder& guest) {
  vsock::PacketHeader data = packet_header(Op::kRw);
  data.len = 4000;
  put_packet(guest, 0, packet_header(Op::kRequest));
  put_packet(guest, 1, data, 4000);
  rounds_of(guest);
}

void claims_what_was_not_sent(GuestBuilder& guest) {
  vsock::PacketHeader lie = packet_header(Op::kCreditUpdate);
  lie.fwd_cnt = 1;
  put_packet(guest, 0, packet_header(Op::kRequest));
  put_packet(guest, 1, lie);
  rounds_of(guest);
}

void opens_with_a_lie(GuestBuilder& guest) {
  vsock::PacketHeader lie = packet_header(Op::kRequest);
  lie.fwd_cnt = 0x7fff'ffff;
  put_packet(guest, 0, lie);
  put_packet(guest, 1, lie);
  rounds_of(guest);
}

void lengths_that_are_not_there(GuestBuilder& guest) {
  vsock::PacketHeader data = packet_header(Op::kRw);
  data.len = 0xffff'ffff;
  put_packet(guest, 0, packet_header(Op::kRequest));
  put_packet(guest, 1, data, 16);
  rounds_of(guest);
}

void operations_that_are_none(GuestBuilder& guest) {
  put_packet(guest, 0, packet_header(Op::kRequest));
  put_packet(guest, 1, packet_header(static_cast<Op>(8)));
  rounds_of(guest);
}

void every_operation(GuestBuilder& guest) {
  put_packet(guest, 0, packet_header(Op::kRequest));
  put_packet(guest, 1, packet_header(Op::kInvalid));
  put_receive_buffers(guest, kPacketRoom);
  guest.all_available(kVsockTx, 2);
  guest.bring_up({kVsockRx, kVsockTx, kVsockEvents});
  guest.cpu().forever([&] {
    guest.submit(kVsockTx, 2);
    refill(guest, kVsockRx);
    guest.wait_used(kVsockTx);
    guest.cpu().add16(packet_address(1) + kOperationOffset, 1);
    guest.round();
  });
}

void types_that_are_none(GuestBuilder& guest) {
  vsock::PacketHeader other = packet_header(Op::kRequest);
  other.type = 2;
  put_packet(guest, 0, other);
  put_packet(guest, 1, other);
  rounds_of(guest);
}

void resets_without_end(GuestBuilder& guest) {
  put_packet(guest, 0, packet_header(Op::kRequest));
  put_packet(guest, 1, packet_header(Op::kRst));
  rounds_of(guest);
}

void shuts_down_without_end(GuestBuilder& guest) {
  vsock::PacketHeader shut = packet_header(Op::kShutdown);
  shut.flags = 0xffff'ffff;
  put_packet(guest, 0, packet_header(Op::kRequest));
  put_packet(guest, 1, shut);
  rounds_of(guest);
}

void asks_for_credit_without_end(GuestBuilder& guest) {
  put_packet(guest, 0, packet_header(Op::kRequest));
  put_packet(guest, 1, packet_header(Op::kCreditRequest));
  rounds_of(guest, false);
}

void talks_to_nobody(GuestBuilder& guest) {
  put_packet(guest, 0, packet_header(Op::kRw));
  put_packet(guest, 1, packet_header(Op::kRw));
  rounds_of(guest);
}

void is_somebody_else(GuestBuilder& guest) {
  vsock::PacketHeader other = packet_header(Op::kRequest);
  other.src_cid = 77;
  put_packet(guest, 0, other);
  other = packet_header(Op::kRequest);
  other.dst_cid = ~uint64_t{0};
  put_packet(guest, 1, other);
  rounds_of(guest);
}

void half_headers(GuestBuilder& guest) {
  put_packet(guest, 0, packet_header(Op::kRw));
  guest.descriptor(kVsockTx, 1, {packet_address(1), 10, 0, 0});
  rounds_of(guest);
}

// It sends, and takes no answer.
void takes_no_answer(GuestBuilder& guest) {
  put_packet(guest, 0, packet_header(Op::kRw));
  guest.all_available(kVsockTx, 1);
  guest.bring_up({kVsockRx, kVsockTx, kVsockEvents});
  guest.cpu().forever([&] {
    guest.cpu().add32(packet_address(0) + kSourcePortOffset, 1);
    refill(guest, kVsockTx);
    guest.round();
  });
}

void takes_answers_in_a_byte(GuestBuilder& guest) {
  put_packet(guest, 0, packet_header(Op::kRw));
  put_receive_buffers(guest, 1);
  guest.all_available(kVsockTx, 1);
  guest.bring_up({kVsockRx, kVsockTx, kVsockEvents});
  guest.cpu().forever([&] {
    guest.cpu().add32(packet_address(0) + kSourcePortOffset, 1);
    refill(guest, kVsockTx);
    refill(guest, kVsockRx);
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
  for (HostileGuest& guest : guests) {
    // One answer a round, until no more may wait.
    guest.rounds = guest.write == takes_no_answer ? 2 * vsock::kMaxPendingResets : guest.rounds;
  }
  return guests;
}

}  // namespace ramet::testing
