// A whole block device behind its MMIO registers, over hostile rings and requests. Input: 1 byte of
// flags, then guest memory as in virtio_queue.
#include <cstddef>
#include <cstdint>

#include "devices/block/cow_backend.h"
#include "devices/block/device.h"
#include "devices/block/file_backend.h"
#include "devices/block/layer_stack.h"
#include "devices/virtio/mmio.h"
#include "fuzz/virtio_machine.h"

namespace {

using namespace ramet;
using fuzz::require;

constexpr uint64_t kDiskBytes = 64 * 512;
constexpr uint64_t kOverlayLimit = 4 * block::kBlockBytes;
constexpr uint16_t kSize = 32;

std::shared_ptr<const block::DiskFile> disk_file() {
  static const auto file = [] {
    auto fd = create_memfd("fuzz-disk", kDiskBytes);
    require(fd.ok());
    auto adopted = block::DiskFile::adopt(*std::move(fd), "disk", block::Access::kReadOnly);
    require(adopted.ok());
    return *adopted;
  }();
  return file;
}

void write32(BusDevice* device, uint64_t offset, uint32_t value) {
  device->bus_write(offset, std::as_bytes(std::span(&value, 1)));
}
uint32_t read32(BusDevice* device, uint64_t offset) {
  uint32_t value = 0;
  device->bus_read(offset, std::as_writable_bytes(std::span(&value, 1)));
  return value;
}

void bring_up(BusDevice* device, uint64_t features) {
  write32(device, virtio::reg::kStatus, 1);
  write32(device, virtio::reg::kStatus, 3);
  write32(device, virtio::reg::kDriverFeatures, static_cast<uint32_t>(features));
  write32(device, virtio::reg::kDriverFeaturesSel, 1);
  write32(device, virtio::reg::kDriverFeatures, static_cast<uint32_t>(features >> 32));
  write32(device, virtio::reg::kStatus, 11);
  write32(device, virtio::reg::kQueueNum, kSize);
  write32(device, virtio::reg::kQueueDescLow, 0);
  write32(device, virtio::reg::kQueueDriverLow, 0x400);
  write32(device, virtio::reg::kQueueDeviceLow, 0x800);
  write32(device, virtio::reg::kQueueReady, 1);
  write32(device, virtio::reg::kStatus, 15);
  require(read32(device, virtio::reg::kStatus) == 15);
}

std::unique_ptr<block::Backend> make_backend(uint8_t flags) {
  if ((flags & 4) != 0) {
    return std::make_unique<block::FileBackend>(disk_file());
  }
  auto stack = block::LayerStack::create((flags & 8) != 0 ? disk_file() : nullptr, kDiskBytes);
  require(stack.ok());
  return std::make_unique<block::CowBackend>(*stack,
                                             block::OverlayOptions{.max_bytes = kOverlayLimit});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) {
    return 0;
  }
  fuzz::load(std::as_bytes(std::span(data, size)).subspan(1));
  fuzz::SilentIrq irq;
  auto device = block::BlockDevice::create(make_backend(data[0]), {"fuzz"});
  require(device.ok());
  block::BlockDevice* const block = device->get();
  auto transport =
      virtio::MmioTransport::create(*std::move(device), {&fuzz::memory(), &irq, nullptr});
  require(transport.ok());
  const uint64_t ring = ((data[0] & 1) != 0 ? virtio::kFeatureIndirectDesc : 0) |
                        ((data[0] & 2) != 0 ? virtio::kFeatureEventIdx : 0);
  bring_up(transport->get(), virtio::kFeatureVersion1 | ring);
  write32(transport->get(), virtio::reg::kQueueNotify, 0);
  write32(transport->get(), virtio::reg::kQueueNotify, 0);

  // The device runs on or asked for its reset; either way it can be saved, and comes up again.
  const uint32_t status = read32(transport->get(), virtio::reg::kStatus);
  require(status == 15 || status == (15 | virtio::kStatusNeedsReset));
  require(status == 15 || irq.count > 0);
  (*transport)->quiesce();
  require((*transport)->save().ok());
  (*transport)->resume();
  if (const auto* cow = dynamic_cast<block::CowBackend*>(block->backend())) {
    require(cow->overlay_bytes() <= kOverlayLimit);
  }
  write32(transport->get(), virtio::reg::kStatus, 0);
  bring_up(transport->get(), virtio::kFeatureVersion1);
  return 0;
}
