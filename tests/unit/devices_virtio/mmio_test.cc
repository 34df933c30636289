#include "devices/virtio/mmio.h"

#include <catch2/catch.hpp>

#include "devices/virtio/empty_slot.h"
#include "tests/support/virtio_driver.h"
#include "tests/unit/devices_virtio/fake_device.h"

using namespace ramet;
using namespace ramet::testing;
using namespace ramet::virtio;

namespace {

struct Slot {
  std::unique_ptr<GuestMemory> memory = make_guest_memory();
  CountingIrq irq;
  FakeDevice* device = new FakeDevice();
  std::unique_ptr<MmioTransport> transport = must(
      MmioTransport::create(std::unique_ptr<VirtioDevice>(device), {memory.get(), &irq, nullptr}));
  VirtioDriver driver{memory.get(), transport.get()};

  uint64_t refused() const { return transport->metrics().refused_accesses; }
};

}  // namespace

TEST_CASE("status bits are taken in their order only") {
  Slot slot;
  VirtioDriver& driver = slot.driver;
  driver.write32(reg::kStatus, kStatusDriver);
  CHECK(driver.status() == 0);
  driver.write32(reg::kStatus, kStatusAcknowledge);
  driver.write32(reg::kStatus, kStatusAcknowledge | kStatusFeaturesOk);
  CHECK(driver.status() == kStatusAcknowledge);
  driver.write32(reg::kStatus, kStatusAcknowledge | kStatusDriver | kStatusDriverOk);
  CHECK(driver.status() == (kStatusAcknowledge | kStatusDriver));
  driver.write32(reg::kStatus, kStatusAcknowledge);  // bits are never taken back
  CHECK(driver.status() == (kStatusAcknowledge | kStatusDriver));
  driver.add_status(kStatusFailed);
  CHECK((driver.status() & kStatusFailed) != 0);
  driver.add_status(16);
  CHECK(slot.refused() == 5);
  driver.write32(reg::kStatus, 0);
  CHECK(driver.status() == 0);
  CHECK(slot.device->activations == 0);
}

TEST_CASE("features are written between DRIVER and FEATURES_OK only") {
  Slot slot;
  VirtioDriver& driver = slot.driver;
  CHECK(driver.device_features() ==
        (FakeDevice::kFeature | kFeatureVersion1 | kFeatureEventIdx | kFeatureIndirectDesc));
  driver.write32(reg::kDeviceFeaturesSel, 2);
  CHECK(driver.read32(reg::kDeviceFeatures) == 0);
  driver.write_features(kFeatureVersion1);  // too early: not taken
  driver.add_status(kStatusAcknowledge);
  driver.add_status(kStatusDriver);
  driver.add_status(kStatusFeaturesOk);
  CHECK((driver.status() & kStatusFeaturesOk) == 0);
  driver.write_features(kFeatureVersion1);
  driver.add_status(kStatusFeaturesOk);
  driver.write_features(kFeatureVersion1 | FakeDevice::kFeature);  // too late
  driver.set_up_queues();
  driver.add_status(kStatusDriverOk);
  CHECK(slot.device->activation.features == kFeatureVersion1);
}

TEST_CASE("a queue that cannot run is not made ready") {
  Slot slot;
  VirtioDriver& driver = slot.driver;
  REQUIRE(driver.negotiate());
  CHECK(driver.queue_max(0) == 64);
  CHECK(driver.queue_max(1) == 128);
  CHECK(driver.queue_max(2) == 0);
  CHECK(driver.queue_max(0xffffffff) == 0);
  driver.program_queue(0, {128, {0x1000}, {0x2000}, {0x3000}});
  CHECK_FALSE(driver.queue_ready(0));
  driver.program_queue(0, {64, {0x1000}, {0x2000}, {uint64_t{1} << 40}});
  CHECK_FALSE(driver.queue_ready(0));
  driver.program_queue(7, {64, {0x1000}, {0x2000}, {0x3000}});
  CHECK_FALSE(driver.queue_ready(7));
  driver.write32(reg::kQueueSel, 0);
  driver.write32(reg::kQueueNum, 0x10040);  // 64 when cut to 16 bits
  driver.write32(reg::kQueueReady, 1);
  CHECK_FALSE(driver.queue_ready(0));
  driver.program_queue(0, {64, {0x1000}, {0x2000}, {0x3000}});
  CHECK(driver.queue_ready(0));
  driver.write32(reg::kQueueReady, 0);
  CHECK_FALSE(driver.queue_ready(0));
}

TEST_CASE("a ready queue keeps its numbers, and an active device its queues") {
  Slot slot;
  VirtioDriver& driver = slot.driver;
  REQUIRE(driver.bring_up());
  const auto before = must(slot.transport->save());
  for (uint64_t offset = reg::kQueueNum; offset < reg::kConfigGeneration; offset += 4) {
    if (offset != reg::kStatus && offset != reg::kQueueNotify) {
      driver.write32(reg::kQueueSel, 0);
      driver.write32(offset, 0x2000);
    }
  }
  driver.write32(reg::kQueueSel, before.queue_sel);
  CHECK(must(slot.transport->save()) == before);
}

TEST_CASE("queues that the driver leaves out are absent from the activation") {
  Slot slot;
  REQUIRE(slot.driver.negotiate());
  slot.driver.program_queue(1, {16, {0x1000}, {0x2000}, {0x3000}});
  slot.driver.add_status(kStatusDriverOk);
  REQUIRE(slot.device->activation.queues.size() == 2);
  CHECK_FALSE(slot.device->activation.queues[0].has_value());
  CHECK(slot.device->activation.queues[1]->size() == 16);
  slot.driver.notify(0);
  CHECK(slot.device->notified.empty());
}

TEST_CASE("a device that refuses its activation needs a reset, and comes up after one") {
  Slot slot;
  slot.device->refuse_activation = true;
  CHECK_FALSE(slot.driver.bring_up());
  CHECK(slot.driver.needs_reset());
  CHECK(slot.driver.take_interrupts() == kInterruptConfig);
  slot.device->refuse_activation = false;
  CHECK(slot.driver.bring_up());
}

TEST_CASE("interrupt bits stay until they are acknowledged") {
  Slot slot;
  REQUIRE(slot.driver.bring_up());
  TransportEvents* events = slot.device->activation.events;
  events->queue_interrupt(0);
  events->config_changed();
  CHECK(slot.irq.count() == 2);
  CHECK(slot.driver.read32(reg::kInterruptStatus) == 3);
  slot.driver.write32(reg::kInterruptAck, 1);
  CHECK(slot.driver.read32(reg::kInterruptStatus) == 2);
  slot.driver.write32(reg::kInterruptAck, 0xffffffff);
  CHECK(slot.driver.read32(reg::kInterruptStatus) == 0);
}

TEST_CASE("the configuration generation moves with each change") {
  Slot slot;
  REQUIRE(slot.driver.bring_up());
  const uint32_t before = slot.driver.read32(reg::kConfigGeneration);
  slot.device->activation.events->config_changed();
  CHECK(slot.driver.read32(reg::kConfigGeneration) == before + 1);
}

TEST_CASE("configuration space is written once DRIVER is set, in any width") {
  Slot slot;
  const std::byte value{7};
  slot.transport->bus_write(reg::kConfig + 3, {&value, 1});
  CHECK(slot.device->config[3] == std::byte{0});
  REQUIRE(slot.driver.bring_up());
  slot.transport->bus_write(reg::kConfig + 3, {&value, 1});
  CHECK(slot.device->config[3] == value);
  CHECK(slot.driver.read32(reg::kConfig) == 0x07000000);
}

TEST_CASE("registers answer aligned 32-bit accesses only") {
  Slot slot;
  std::array<std::byte, 8> data;
  for (uint64_t offset = 0; offset < reg::kConfig; ++offset) {
    for (const size_t width : {1u, 2u, 4u, 8u}) {
      if (width == 4 && offset % 4 == 0) {
        continue;
      }
      data.fill(std::byte{0xff});
      slot.transport->bus_write(offset, std::span(data).first(width));
      slot.transport->bus_read(offset, std::span(data).first(width));
      CHECK(data[0] == std::byte{0});
    }
  }
  CHECK(slot.driver.status() == 0);
}

TEST_CASE("shared memory regions do not exist, and write-only registers read zero") {
  Slot slot;
  for (const uint64_t offset :
       {reg::kShmLenLow, reg::kShmLenHigh, reg::kShmBaseLow, reg::kShmBaseHigh}) {
    CHECK(slot.driver.read32(offset) == 0xffffffff);
  }
  for (const uint64_t offset : {reg::kQueueNotify, reg::kInterruptAck, reg::kQueueNum,
                                reg::kQueueDescLow, reg::kDriverFeatures, uint64_t{0xf0}}) {
    CHECK(slot.driver.read32(offset) == 0);
  }
}

TEST_CASE("an empty slot shows a device id of zero and takes no writes") {
  EmptySlot slot;
  const auto memory = make_guest_memory();
  VirtioDriver driver(memory.get(), &slot);
  CHECK(driver.read32(reg::kMagicValue) == kMmioMagic);
  CHECK(driver.read32(reg::kVersion) == 2);
  CHECK(driver.read32(reg::kDeviceId) == 0);
  driver.write32(reg::kStatus, 0xff);
  CHECK(driver.status() == 0);
  std::array<std::byte, 8> wide;
  wide.fill(std::byte{0xff});
  slot.bus_read(0, wide);
  CHECK(wide == std::array<std::byte, 8>{});
}
