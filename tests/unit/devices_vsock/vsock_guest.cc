#include "tests/unit/devices_vsock/vsock_guest.h"

#include <stdexcept>
#include <utility>

namespace ramet::test {
namespace {

constexpr uint64_t kMemoryBytes = 16 << 20;
constexpr uint64_t kRingBytes = 0x10000;
constexpr std::array<uint16_t, 3> kSizes = {256, 256, 64};
constexpr uint64_t kRxBuffers = 0x100000;  // of 16 KiB, 256
constexpr uint64_t kTxBuffers = 0x600000;  // of 128 KiB, 64
constexpr uint64_t kEventBuffers = 0x80000;

// Guests run in threads of their own, where Catch2's macros must not.
void must(bool condition) {
  if (!condition) {
    throw std::runtime_error("the vsock test driver found something broken");
  }
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

DriverRing::DriverRing(const GuestMemory* memory, uint64_t base, uint16_t size)
    : memory_(memory), base_(base), size_(size) {}

virtio::QueueLayout DriverRing::layout() const {
  return {size_, GuestAddr{base_}, GuestAddr{base_ + 0x4000}, GuestAddr{base_ + 0x8000}};
}

uint16_t DriverRing::add(const std::vector<Buffer>& buffers) {
  const uint16_t head = next_descriptor_;
  for (size_t i = 0; i < buffers.size(); ++i) {
    const uint16_t index = next_descriptor_;
    next_descriptor_ = static_cast<uint16_t>((next_descriptor_ + 1) % size_);
    virtio::Descriptor descriptor{buffers[i].address, buffers[i].length, 0, next_descriptor_};
    descriptor.flags = static_cast<uint16_t>((i + 1 < buffers.size() ? virtio::kDescNext : 0) |
                                             (buffers[i].device_writes ? virtio::kDescWrite : 0));
    must(memory_->write_object(GuestAddr{base_ + 16 * uint64_t{index}}, descriptor).ok());
  }
  const uint64_t slot = layout().avail.value + 4 + 2 * uint64_t(avail_ % size_);
  must(memory_->store_release_u16(GuestAddr{slot}, head).ok());
  ++avail_;
  set_avail_index(avail_);
  return head;
}

void DriverRing::set_avail_index(uint16_t index) {
  must(memory_->store_release_u16(GuestAddr{layout().avail.value + 2}, index).ok());
}

void DriverRing::set_used_event(uint16_t index) {
  must(memory_->store_release_u16(GuestAddr{layout().avail.value + 4 + 2 * uint64_t{size_}}, index)
           .ok());
}

std::optional<DriverRing::Used> DriverRing::take_used() {
  const auto index = memory_->load_acquire_u16(GuestAddr{layout().used.value + 2});
  must(index.ok());
  if (*index == used_) {
    return std::nullopt;
  }
  const uint64_t slot = layout().used.value + 4 + 8 * uint64_t(used_ % size_);
  const auto element = memory_->read_object<virtio::UsedElement>(GuestAddr{slot});
  must(element.ok());
  ++used_;
  set_used_event(used_);  // interrupt me for the next one
  return Used{static_cast<uint16_t>(element->id), element->length};
}

VsockGuest::VsockGuest(VsockOptions options) : device_(Vsock::create(options)) {
  auto fd = create_memfd("vsock-test", kMemoryBytes);
  must(fd.ok());
  const std::array<MemoryRegion, 1> regions = {{{GuestAddr{0}, kMemoryBytes, 0}}};
  auto memory = GuestMemory::create(fd->get(), regions, MapMode::kShared);
  must(memory.ok());
  memory_ = std::move(*memory);
  for (uint16_t i = 0; i < 3; ++i) {
    rings_[i] = std::make_unique<DriverRing>(memory_.get(), kRingBytes * (i + 1), kSizes[i]);
  }
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
  must(activate().ok());
  add_rx_buffers(128);
  add_event_buffers(8);
}

void VsockGuest::add_rx_buffers(int count, uint32_t bytes) {
  for (int i = 0; i < count; ++i) {
    const uint64_t address = kRxBuffers + (next_rx_++ % 256) * 0x4000;
    const uint16_t head = ring(Vsock::kRxQueue).add({{address, bytes, true}});
    rx_address_[head] = address;
  }
  device_->notify(Vsock::kRxQueue);
}

void VsockGuest::add_event_buffers(int count) {
  for (int i = 0; i < count; ++i) {
    const uint64_t address = kEventBuffers + (next_event_++ % 64) * 16;
    const uint16_t head = ring(Vsock::kEventQueue).add({{address, 4, true}});
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
  DriverRing& tx = ring(Vsock::kTxQueue);
  while (tx.take_used()) {
  }
  const uint64_t address = kTxBuffers + (next_tx_++ % 64) * 0x20000;
  const auto encoded = vsock::encode_header(header);
  must(memory_->write(GuestAddr{address}, encoded).ok());
  must(memory_->write(GuestAddr{address + 64}, bytes_of(payload)).ok());
  std::vector<DriverRing::Buffer> buffers = {{address, vsock::kHeaderBytes, false}};
  if (!payload.empty()) {
    buffers.push_back({address + 64, static_cast<uint32_t>(payload.size()), false});
  }
  tx.add(buffers);
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
  must(memory_->write(GuestAddr{address}, bytes_of(bytes)).ok());
  ring(Vsock::kTxQueue).add({{address, static_cast<uint32_t>(bytes.size()), false}});
  device_->notify(Vsock::kTxQueue);
}

std::optional<GuestPacket> VsockGuest::receive_and_keep() {
  const auto used = ring(Vsock::kRxQueue).take_used();
  if (!used) {
    return std::nullopt;
  }
  must(used->length >= vsock::kHeaderBytes);
  const uint64_t address = rx_address_[used->head];
  std::array<std::byte, vsock::kHeaderBytes> bytes;
  must(memory_->read(GuestAddr{address}, bytes).ok());
  GuestPacket packet{vsock::decode_header(bytes), {}};
  packet.payload.resize(used->length - vsock::kHeaderBytes);
  must(packet.payload.size() == packet.header.len);
  must(memory_
           ->read(GuestAddr{address + vsock::kHeaderBytes},
                  std::as_writable_bytes(std::span(packet.payload)))
           .ok());
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
  const auto used = ring(Vsock::kEventQueue).take_used();
  if (!used) {
    return std::nullopt;
  }
  must(used->length == 4);
  const auto id = memory_->read_object<uint32_t>(GuestAddr{event_address_[used->head]});
  must(id.ok());
  return *id;
}

}  // namespace ramet::test
