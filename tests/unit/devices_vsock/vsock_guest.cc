#include "tests/unit/devices_vsock/vsock_guest.h"

#include <stdexcept>
#include <utility>

namespace ramet::testing {
namespace {

constexpr uint64_t kMemoryBytes = 16 << 20;
constexpr uint64_t kRingBytes = 0x10000;
constexpr std::array<uint16_t, 3> kSizes = {256, 256, 64};
constexpr uint64_t kRxBuffers = 0x100000;  // of 16 KiB, 256
constexpr uint64_t kTxBuffers = 0x600000;  // of 128 KiB, 64
constexpr uint64_t kEventBuffers = 0x80000;

// Guests run in threads of their own, where Catch2's macros must not.
void must_hold(bool condition) {
  if (!condition) {
    throw std::runtime_error("the vsock device gave its driver something broken");
  }
}

GuestAddr at(uint64_t address) { return GuestAddr{address}; }

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

VsockGuest::VsockGuest(VsockOptions options)
    : memory_(make_guest_memory(kMemoryBytes)), device_(Vsock::create(options)) {
  for (uint16_t i = 0; i < 3; ++i) {
    const uint64_t base = kRingBytes * (i + 1);
    rings_[i].emplace(memory_.get(),
                      virtio::QueueLayout{kSizes[i], GuestAddr{base}, GuestAddr{base + 0x4000},
                                          GuestAddr{base + 0x8000}});
  }
}

std::optional<virtio::UsedElement> VsockGuest::take_used(uint16_t index) {
  const auto used = ring(index).take_used();
  if (used) {
    ring(index).set_used_event(++taken_[index]);
  }
  return used;
}

StatusOr<std::unique_ptr<Vsock>> VsockGuest::fork_device(const virtio::SavedDevice& saved,
                                                         VsockOptions options) const {
  return Vsock::create_from_state(options, saved.bytes);
}

Status VsockGuest::activate(const std::vector<uint16_t>& positions) {
  virtio::Activation activation;
  activation.memory = memory_.get();
  activation.features = virtio::kFeatureVersion1 | virtio::kFeatureEventIdx;
  activation.events = &events_;
  for (uint16_t i = 0; i < 3; ++i) {
    virtio::QueueConfig config(kSizes[i]);
    *config.mutable_layout() = rings_[i]->layout();
    config.set_ready(true);
    RAMET_ASSIGN_OR_RETURN(virtio::Queue queue,
                           config.activate_at(memory_.get(), {.event_idx = true}, positions[i]));
    activation.queues.emplace_back(queue);
  }
  return device_->activate(std::move(activation));
}

void VsockGuest::start() {
  must(activate());
  add_rx_buffers(128);
  add_event_buffers(8);
}

void VsockGuest::add_rx_buffers(int count, uint32_t bytes) {
  for (int i = 0; i < count; ++i) {
    const uint64_t address = kRxBuffers + (next_rx_++ % 256) * 0x4000;
    const uint16_t head = ring(Vsock::kRxQueue).add({{at(address), bytes, true}});
    rx_address_[head] = address;
  }
  device_->notify(Vsock::kRxQueue);
}

void VsockGuest::add_event_buffers(int count) {
  for (int i = 0; i < count; ++i) {
    const uint64_t address = kEventBuffers + (next_event_++ % 64) * 16;
    const uint16_t head = ring(Vsock::kEventQueue).add({{at(address), 4, true}});
    event_address_[head] = address;
  }
  device_->notify(Vsock::kEventQueue);
}

vsock::PacketHeader VsockGuest::header(vsock::Op op, uint32_t guest_port,
                                       uint32_t host_port) const {
  vsock::PacketHeader header;
  header.src_cid = vsock::kGuestCid;
  header.dst_cid = vsock::kHostCid;
  header.src_port = guest_port;
  header.dst_port = host_port;
  header.type = vsock::kTypeStream;
  header.op = op;
  header.buf_alloc = peer_buf_alloc;
  header.fwd_cnt = peer_fwd_cnt;
  return header;
}

void VsockGuest::queue_packet(const vsock::PacketHeader& header, std::string_view payload) {
  while (take_used(Vsock::kTxQueue)) {
  }
  const uint64_t address = kTxBuffers + (next_tx_++ % 64) * 0x20000;
  const auto encoded = vsock::encode_header(header);
  must(memory_->write(at(address), encoded));
  must(memory_->write(at(address + 64), bytes_of(payload)));
  const auto bytes = static_cast<uint32_t>(payload.size());
  if (bytes == 0) {
    ring(Vsock::kTxQueue).add({{at(address), vsock::kHeaderBytes, false}});
  } else {
    ring(Vsock::kTxQueue)
        .add({{at(address), vsock::kHeaderBytes, false}, {at(address + 64), bytes, false}});
  }
}

void VsockGuest::send(const vsock::PacketHeader& header, std::string_view payload) {
  queue_packet(header, payload);
  device_->notify(Vsock::kTxQueue);
}

void VsockGuest::send(vsock::Op op, uint32_t guest_port, uint32_t host_port,
                      std::string_view payload) {
  vsock::PacketHeader packet = header(op, guest_port, host_port);
  packet.len = static_cast<uint32_t>(payload.size());
  send(packet, payload);
}

void VsockGuest::send_raw(std::string_view bytes) {
  const uint64_t address = kTxBuffers + (next_tx_++ % 64) * 0x20000;
  must(memory_->write(at(address), bytes_of(bytes)));
  ring(Vsock::kTxQueue).add({{at(address), static_cast<uint32_t>(bytes.size()), false}});
  device_->notify(Vsock::kTxQueue);
}

std::optional<GuestPacket> VsockGuest::receive_and_keep() {
  const auto used = take_used(Vsock::kRxQueue);
  if (!used) {
    return std::nullopt;
  }
  must_hold(used->length >= vsock::kHeaderBytes);
  const uint64_t address = rx_address_[used->id];
  std::array<std::byte, vsock::kHeaderBytes> bytes;
  must(memory_->read(at(address), bytes));
  GuestPacket packet{vsock::decode_header(bytes), {}};
  packet.payload.resize(used->length - vsock::kHeaderBytes);
  must_hold(packet.payload.size() == packet.header.len);
  must(memory_->read(at(address + vsock::kHeaderBytes),
                     std::as_writable_bytes(std::span(packet.payload))));
  return packet;
}

std::optional<GuestPacket> VsockGuest::receive() {
  auto packet = receive_and_keep();
  if (packet) {
    add_rx_buffers(1);
  }
  return packet;
}

std::optional<uint32_t> VsockGuest::receive_event() {
  const auto used = take_used(Vsock::kEventQueue);
  if (!used) {
    return std::nullopt;
  }
  must_hold(used->length == 4);
  return must(memory_->read_object<uint32_t>(at(event_address_[used->id])));
}

}  // namespace ramet::testing
