#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "tests/guests/agent.h"

namespace ramet::testing {
namespace {

using vsock::Op;

constexpr uint64_t kPeerPort = kRounds + 0x100;
// Packets of the flood, and of those too large for a page.
constexpr uint64_t kLargePacket = kFreeMemory;

vsock::PacketHeader from_agent(Op op) {
  vsock::PacketHeader header = packet_header(op);
  header.src_port = wire::kAgentPort;
  return header;
}

std::vector<std::byte> frame(const wire::Message& message) {
  auto encoded = wire::encode(message);
  if (!encoded.ok()) {
    throw std::logic_error(std::string(encoded.error()));
  }
  return encoded.take();
}

}  // namespace

AgentScript::AgentScript(GuestBuilder* guest) : guest_(*guest) {
  put_receive_buffers(guest_, kPacketRoom);
  guest_.bring_up({kVsockRx, kVsockTx, kVsockEvents});
  guest_.submit(kVsockRx, kVsockRx.size);
  guest_.cpu().bytes({0x4d, 0x31, 0xe4});  // xor r12, r12: receive buffers seen
}

// The address of the next packet, which is there, in rsi.
void AgentScript::take_packet() {
  Assembler& code = guest_.cpu();
  code.bytes({0x48, 0xbe});  // mov rsi, imm64
  code.immediate(kReceiveBuffers, 8);
  // mov eax, r12d; and eax, size - 1; shl rax, 12; add rsi, rax; inc r12
  code.bytes({0x44, 0x89, 0xe0, 0x25});
  code.immediate(kVsockRx.size - 1, 4);
  code.bytes({0x48, 0xc1, 0xe0, 0x0c, 0x48, 0x01, 0xc6, 0x49, 0xff, 0xc4});
}

// The packet's address stays in rsi.
void AgentScript::wait_any_packet() {
  Assembler& code = guest_.cpu();
  const size_t again = code.here();
  code.load(kVsockRx.used_index(), 2);
  code.bytes({0x66, 0x44, 0x39, 0xe0});  // cmp ax, r12w
  code.jump_back({0x0f, 0x84}, again);
  take_packet();
}

void AgentScript::compare_operation(Op op) {
  Assembler& code = guest_.cpu();
  code.bytes({0x66, 0x81, 0x7e, static_cast<uint8_t>(kOperationOffset)});  // cmp [rsi + 30], imm16
  code.immediate(static_cast<uint16_t>(op), 2);
}

void AgentScript::wait_packet(Op op) {
  const size_t again = guest_.cpu().here();
  wait_any_packet();
  compare_operation(op);
  guest_.cpu().jump_back({0x0f, 0x85}, again);
}

void AgentScript::note_peer() {
  guest_.cpu().bytes({0x8b, 0x46, static_cast<uint8_t>(kSourcePortOffset)});  // mov eax, [rsi + 16]
  guest_.cpu().store_rax(kPeerPort, 4);
}

uint16_t AgentScript::add_packet(const vsock::PacketHeader& header,
                                 std::span<const std::byte> payload) {
  if (packets_ == kVsockTx.size || payload.size() > kPacketRoom - vsock::kHeaderBytes) {
    throw std::logic_error("an agent that says too much");
  }
  put_packet(guest_, packets_, header, static_cast<uint32_t>(payload.size()));
  guest_.put(packet_address(packets_) + vsock::kHeaderBytes, payload);
  return packets_++;
}

void AgentScript::give(uint16_t packet) {
  Assembler& code = guest_.cpu();
  // The next entry of the available ring names it: some packets are not sent, others many times.
  code.load(kVsockTx.avail_index(), 2);
  code.bytes({0x25});  // and eax, imm32
  code.immediate(kVsockTx.size - 1, 4);
  code.bytes({0x48, 0xbf});  // mov rdi, imm64
  code.immediate(kVsockTx.avail() + virtio::kRingEntries, 8);
  code.bytes({0x66, 0xc7, 0x04, 0x47});  // mov word [rdi + 2 * rax], imm16
  code.immediate(packet, 2);
  code.load(kPeerPort, 4);
  code.store_rax(packet_address(packet) + kTargetPortOffset, 4);
  guest_.submit(kVsockTx);
  guest_.wait_used(kVsockTx);
}

void AgentScript::send(Op op, uint32_t flags) {
  vsock::PacketHeader header = from_agent(op);
  header.flags = flags;
  give(add_packet(header, {}));
}

void AgentScript::say(std::span<const std::byte> bytes) {
  vsock::PacketHeader header = from_agent(Op::kRw);
  header.len = static_cast<uint32_t>(bytes.size());
  give(add_packet(header, bytes));
}

void AgentScript::say(const wire::Message& message) { say(frame(message)); }

// Two packets above 64 KiB / 2: the host gives a credit update for every 64 KiB that it has read.
void AgentScript::say_for_ever(std::span<const std::byte> bytes) {
  Assembler& code = guest_.cpu();
  std::vector<std::byte> all;
  while (all.size() <= (64 << 10)) {
    all.insert(all.end(), bytes.begin(), bytes.end());
  }
  vsock::PacketHeader header = from_agent(Op::kRw);
  header.len = static_cast<uint32_t>(all.size());
  const uint16_t last = kVsockTx.size - 1;
  guest_.put_object(kLargePacket, vsock::encode_header(header));
  guest_.put(kLargePacket + vsock::kHeaderBytes, all);
  guest_.descriptor(kVsockTx, last,
                    {kLargePacket, static_cast<uint32_t>(vsock::kHeaderBytes + all.size()), 0, 0});
  code.load(kPeerPort, 4);
  code.store_rax(kLargePacket + kTargetPortOffset, 4);
  for (uint16_t i = 0; i < kVsockTx.size; ++i) {
    code.store(kVsockTx.avail() + virtio::kRingEntries + uint64_t{2} * i, last, 2);
  }
  code.forever([&] {
    guest_.submit(kVsockTx);
    wait_packet(Op::kCreditUpdate);
    refill(guest_, kVsockRx);
    guest_.round();
  });
}

void AgentScript::accept() {
  wait_packet(Op::kRequest);
  note_peer();
  send(Op::kResponse);
}

void AgentScript::take_reseed() {
  accept();
  greet();
  wait_packet(Op::kRw);
}

void AgentScript::reseed_well(int acks) {
  take_reseed();
  acknowledge_reseed(acks);
}

void AgentScript::reseed_well_unless_named(std::string_view name) {
  wire::Reseed named;
  named.hostname = name;
  const std::vector<std::byte> request = frame(named);
  const auto bytes = std::as_bytes(std::span(name));
  const auto found = std::search(request.begin(), request.end(), bytes.begin(), bytes.end());
  uint32_t first = 0;
  if (bytes.size() != sizeof first || found == request.end()) {
    throw std::logic_error("a name of other than four bytes");
  }
  std::memcpy(&first, bytes.data(), sizeof first);
  take_reseed();
  Assembler& code = guest_.cpu();
  code.bytes({0x81, 0xbe});  // cmp dword [rsi + disp32], imm32
  code.immediate(vsock::kHeaderBytes + frame(wire::Hello{}).size() +
                     static_cast<size_t>(found - request.begin()),
                 4);
  code.immediate(first, 4);
  const size_t other = code.jump_ahead({0x0f, 0x85});
  code.jump_back({0xe9}, code.here());
  code.land(other);
  acknowledge_reseed(1);
}

void AgentScript::acknowledge_reseed(int acks) {
  // The host's Hello, then the Reseed with its generation.
  const size_t hello = frame(wire::Hello{}).size();
  const auto generation =
      static_cast<uint32_t>(vsock::kHeaderBytes + hello + wire::kHeaderBytes + wire::kEntropyBytes);
  const uint16_t ack = packets_;
  const std::vector<std::byte> bytes = frame(wire::ReseedAck{});
  for (uint32_t half = 0; half < 2; ++half) {
    guest_.cpu().bytes({0x48, 0x8b, 0x86});  // mov rax, [rsi + disp32]
    guest_.cpu().immediate(generation + 8 * half, 4);
    for (int i = 0; i < acks; ++i) {
      guest_.cpu().store_rax(packet_address(static_cast<uint16_t>(ack + i)) + vsock::kHeaderBytes +
                                 wire::kHeaderBytes + uint64_t{8} * half,
                             8);
    }
  }
  for (int i = 0; i < acks; ++i) {
    say(bytes);
  }
}

uint16_t AgentScript::keep(Op op, std::span<const std::byte> payload) {
  vsock::PacketHeader header = from_agent(op);
  header.len = static_cast<uint32_t>(payload.size());
  return add_packet(header, payload);
}

struct AgentScript::Answers {
  uint16_t response = 0;
  uint16_t hello = 0;
  uint16_t ack = 0;
  uint16_t exit = 0;
  uint16_t held = 0;
  uint16_t thawed = 0;
};

void AgentScript::answer(const Answers& answers, const std::function<void()>& work,
                         std::vector<size_t>* done) {
  Assembler& code = guest_.cpu();
  const auto hello = static_cast<uint32_t>(frame(wire::Hello{}).size());
  // Behind our Hello where the message is the first, else at the beginning.
  const auto when = [&](wire::MessageType type, uint32_t before,
                        const std::function<void()>& then) {
    code.bytes({0x80, 0xbe});  // cmp byte [rsi + disp32], imm8
    code.immediate(vsock::kHeaderBytes + before + 4, 4);
    code.immediate(static_cast<uint8_t>(type), 1);
    const size_t other = code.jump_ahead({0x0f, 0x85});
    then();
    done->push_back(code.jump_ahead({0xe9}));
    code.land(other);
  };
  const auto payload = [](uint16_t packet) {
    return packet_address(packet) + vsock::kHeaderBytes + wire::kHeaderBytes;
  };
  // First what begins a packet: behind a short message a buffer holds what it held before.
  when(wire::MessageType::kThaw, 0, [&] { give(answers.thawed); });
  const auto hold = [&] { give(answers.held); };
  const auto run = [&] {
    code.add64(kServed, 1);
    work();
    code.load(kServed, 8);
    code.bytes({0x25});  // and eax, imm32
    code.immediate(0x7f, 4);
    code.store_rax(payload(answers.exit) + 1, 1);  // behind the kind
    give(answers.exit);
  };
  when(wire::MessageType::kSuspend, 0, hold);
  when(wire::MessageType::kExecRequest, 0, run);
  when(wire::MessageType::kReseed, hello, [&] {
    const uint32_t generation =
        vsock::kHeaderBytes + hello + wire::kHeaderBytes + wire::kEntropyBytes;
    for (uint32_t half = 0; half < 2; ++half) {
      code.bytes({0x48, 0x8b, 0x86});  // mov rax, [rsi + disp32]
      code.immediate(generation + 8 * half, 4);
      code.store_rax(payload(answers.ack) + uint64_t{8} * half, 8);
    }
    give(answers.ack);
  });
  when(wire::MessageType::kSuspend, hello, hold);
  when(wire::MessageType::kExecRequest, hello, run);
}

void AgentScript::serve(const std::function<void()>& work) {
  Assembler& code = guest_.cpu();
  const Answers answers = {
      .response = keep(Op::kResponse),
      .hello = keep(Op::kRw, frame(wire::Hello{wire::kProtocolVersion, "serving", "hand-made"})),
      .ack = keep(Op::kRw, frame(wire::ReseedAck{})),
      .exit = keep(Op::kRw, frame(wire::Exit{})),
      .held = keep(Op::kRw, frame(wire::FreezeReply{})),
      .thawed = keep(Op::kRw, frame(wire::Thawed{}))};
  std::vector<size_t> done;  // with a packet: what answers it uses rsi
  const auto when_packet = [&](Op op, const std::function<void()>& then) {
    compare_operation(op);
    const size_t other = code.jump_ahead({0x0f, 0x85});
    then();
    done.push_back(code.jump_ahead({0xe9}));
    code.land(other);
  };
  const size_t again = code.here();
  // An event that the device gave: its buffer goes back.
  code.load(kVsockEvents.avail_index(), 2);
  code.bytes({0x48, 0x89, 0xc1});  // mov rcx, rax
  code.load(kVsockEvents.used_index(), 2);
  code.bytes({0x66, 0x39, 0xc8});  // cmp ax, cx
  const size_t no_event = code.jump_ahead({0x0f, 0x85});
  guest_.submit(kVsockEvents);
  code.land(no_event);
  code.load(kVsockRx.used_index(), 2);
  code.bytes({0x66, 0x44, 0x39, 0xe0});  // cmp ax, r12w
  code.jump_back({0x0f, 0x84}, again);
  take_packet();
  when_packet(Op::kRequest, [&] {
    note_peer();
    give(answers.response);
    give(answers.hello);
  });
  when_packet(Op::kRw, [&] {
    note_peer();
    answer(answers, work, &done);
  });
  for (const size_t jump : done) {
    code.land(jump);
  }
  refill(guest_, kVsockRx);
  code.jump_back({0xe9}, again);
}

void AgentScript::take_request() {
  Assembler& code = guest_.cpu();
  const uint16_t response = keep(Op::kResponse);
  const uint16_t hello =
      keep(Op::kRw, frame(wire::Hello{wire::kProtocolVersion, "hostile", "hand-made"}));
  const size_t again = code.here();
  wait_any_packet();
  compare_operation(Op::kRw);
  const size_t there = code.jump_ahead({0x0f, 0x84});
  compare_operation(Op::kRequest);
  code.jump_back({0x0f, 0x85}, again);
  note_peer();
  give(response);
  give(hello);
  code.jump_back({0xe9}, again);
  code.land(there);
}

void AgentScript::withhold_credit() {
  vsock::PacketHeader header = from_agent(Op::kCreditUpdate);
  header.buf_alloc = 0;
  give(add_packet(header, {}));
}

}  // namespace ramet::testing
