// The contract suite: what every virtio device does, whatever it is for. A device's unit tests
// apply it with one line, and a type that says how the device is made and given work:
//
//   struct BlockHarness {
//     static constexpr uint16_t kBreakableQueue = 0;  // its chains are popped at notify()
//     std::unique_ptr<virtio::VirtioDevice> make();
//     StatusOr<std::unique_ptr<virtio::VirtioDevice>> restore(std::span<const std::byte> bytes);
//     void start_work(VirtioDriver* driver);   // gives the device work; need not wait for it
//     void finish_work(VirtioDriver* driver);  // waits until all of it is done, and checks it; the
//   };                                         // device may be a restored one by then
//   RAMET_VIRTIO_DEVICE_CONTRACT("block", BlockHarness)
//
// The harness is made before the transport and destroyed after it.
//
// Thread rule: the test's thread; a harness may have threads that carry work out.
// Invariant: no check here knows what the device is for.
#ifndef RAMET_TESTS_SUPPORT_DEVICE_CONTRACT_H_
#define RAMET_TESTS_SUPPORT_DEVICE_CONTRACT_H_

#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include <catch2/catch.hpp>

#include "devices/virtio/device.h"
#include "devices/virtio/mmio.h"
#include "devices/virtio/state.h"
#include "tests/support/virtio_driver.h"

namespace ramet::testing::contract {

template <typename Harness>
struct Machine {
  std::unique_ptr<GuestMemory> memory = make_guest_memory();
  CountingIrq irq;
  Harness harness;
  std::unique_ptr<virtio::MmioTransport> transport =
      must(virtio::MmioTransport::create(harness.make(), parts()));
  VirtioDriver driver{memory.get(), transport.get()};

  virtio::TransportParts parts() { return {memory.get(), &irq, nullptr}; }

  // The device and its transport become another one, made from the bytes of this one's state.
  void save_and_restore() {
    transport->quiesce();
    const auto saved = transport->save();
    REQUIRE(saved.ok());
    const auto decoded = virtio::decode_transport_state(encode_transport_state(*saved));
    REQUIRE(decoded.ok());
    CHECK(*decoded == *saved);
    transport.reset();
    auto device = harness.restore(decoded->device);
    REQUIRE(device.ok());
    transport =
        must(virtio::MmioTransport::create_from_state(*std::move(device), parts(), *decoded));
    // The device's own bytes are its own business: a restored one may have something to tell.
    auto again = transport->save();
    REQUIRE(again.ok());
    again->device = saved->device;
    CHECK(*again == *saved);
    driver.attach(transport.get());
    transport->resume();
  }

  void check_works() {
    harness.start_work(&driver);
    harness.finish_work(&driver);
    CHECK_FALSE(driver.needs_reset());
  }
};

template <typename Harness>
void negotiates_features() {
  Machine<Harness> machine;
  VirtioDriver& driver = machine.driver;
  CHECK(driver.read32(virtio::reg::kMagicValue) == virtio::kMmioMagic);
  CHECK(driver.read32(virtio::reg::kVersion) == 2);
  CHECK(driver.read32(virtio::reg::kDeviceId) ==
        static_cast<uint32_t>(machine.transport->device()->type()));
  CHECK((driver.device_features() & virtio::kFeatureVersion1) != 0);
  // Without VERSION_1, and with a feature that was not offered, FEATURES_OK is not taken.
  CHECK_FALSE(driver.negotiate(virtio::kFeatureVersion1));
  driver.write32(virtio::reg::kStatus, 0);
  driver.add_status(virtio::kStatusAcknowledge);
  driver.add_status(virtio::kStatusDriver);
  driver.write_features(virtio::kFeatureVersion1 | (uint64_t{1} << 63));
  driver.add_status(virtio::kStatusFeaturesOk);
  CHECK((driver.status() & virtio::kStatusFeaturesOk) == 0);
  for (const uint64_t without :
       {uint64_t{0}, virtio::kFeatureEventIdx, virtio::kFeatureIndirectDesc,
        virtio::kFeatureEventIdx | virtio::kFeatureIndirectDesc}) {
    REQUIRE(driver.bring_up(without));
    machine.check_works();
  }
}

template <typename Harness>
void reset_restores_the_initial_state() {
  Machine<Harness> machine;
  const auto initial = machine.transport->save();
  REQUIRE(initial.ok());
  REQUIRE(machine.driver.bring_up());
  machine.harness.start_work(&machine.driver);
  machine.driver.write32(virtio::reg::kStatus, 0);
  CHECK(machine.driver.status() == 0);
  const auto after = machine.transport->save();
  REQUIRE(after.ok());
  CHECK(*after == *initial);
}

template <typename Harness>
void works_again_after_a_reset() {
  Machine<Harness> machine;
  for (int i = 0; i < 3; ++i) {
    REQUIRE(machine.driver.bring_up());
    machine.check_works();
  }
}

template <typename Harness>
void refuses_a_second_activation() {
  Machine<Harness> machine;
  REQUIRE(machine.driver.bring_up());
  virtio::Activation second;
  second.memory = machine.memory.get();
  second.queues.resize(machine.transport->device()->queue_max_sizes().size());
  CHECK(machine.transport->device()->activate(std::move(second)).code() ==
        absl::StatusCode::kFailedPrecondition);
  machine.check_works();
}

template <typename Harness>
void saves_and_restores_in_the_middle_of_work() {
  Machine<Harness> machine;
  REQUIRE(machine.driver.bring_up());
  machine.check_works();
  machine.harness.start_work(&machine.driver);
  machine.save_and_restore();
  machine.harness.finish_work(&machine.driver);
  machine.check_works();
}

template <typename Harness>
void saves_and_restores_before_it_is_active() {
  Machine<Harness> machine;
  machine.save_and_restore();
  REQUIRE(machine.driver.negotiate());
  machine.save_and_restore();
  machine.driver.set_up_queues();
  machine.save_and_restore();
  machine.driver.add_status(virtio::kStatusDriverOk);
  CHECK_FALSE(machine.driver.needs_reset());
  machine.check_works();
}

template <typename Harness>
void goes_on_after_a_save() {
  Machine<Harness> machine;
  REQUIRE(machine.driver.bring_up());
  CHECK(machine.transport->save().status().code() == absl::StatusCode::kFailedPrecondition);
  machine.harness.start_work(&machine.driver);
  machine.transport->quiesce();
  REQUIRE(machine.transport->save().ok());
  machine.transport->resume();
  machine.harness.finish_work(&machine.driver);
  machine.check_works();
}

template <typename Harness>
void raises_again_what_was_pending() {
  Machine<Harness> machine;
  REQUIRE(machine.driver.bring_up());
  machine.driver.queue(Harness::kBreakableQueue).set_avail_index(0x8000);
  machine.driver.notify(Harness::kBreakableQueue);
  REQUIRE(machine.driver.needs_reset());
  const uint64_t before = machine.irq.count();
  machine.save_and_restore();
  CHECK(machine.irq.count() == before + 1);
  CHECK(machine.driver.needs_reset());
  CHECK((machine.driver.take_interrupts() & virtio::kInterruptConfig) != 0);
  REQUIRE(machine.driver.bring_up());
  machine.check_works();
}

// Breaks the ring in one way, and expects DEVICE_NEEDS_RESET, silence after it, and a device as new
// after a reset.
template <typename Harness, typename Break>
void survives(Break break_ring) {
  Machine<Harness> machine;
  VirtioDriver& driver = machine.driver;
  REQUIRE(driver.bring_up());
  machine.check_works();
  driver.take_interrupts();
  DriverQueue& queue = driver.queue(Harness::kBreakableQueue);
  break_ring(&driver, &queue);
  const uint64_t irqs = machine.irq.count();
  driver.notify(Harness::kBreakableQueue);
  CHECK(driver.needs_reset());
  CHECK(machine.irq.count() == irqs + 1);
  CHECK((driver.take_interrupts() & virtio::kInterruptConfig) != 0);
  const uint16_t used = queue.used_index();
  driver.notify(Harness::kBreakableQueue);
  CHECK(queue.used_index() == used);
  CHECK(machine.transport->metrics().failures == 1);
  REQUIRE(driver.bring_up());
  machine.check_works();
}

template <typename Harness>
void survives_hostile_rings() {
  using Driver = VirtioDriver;
  SECTION("a descriptor that is its own successor") {
    survives<Harness>([](Driver* driver, DriverQueue* queue) {
      queue->write_descriptor(0, {driver->allocate(64).value, 64, virtio::kDescNext, 0});
      queue->make_available(0);
    });
  }
  SECTION("a head outside the table") {
    survives<Harness>([](Driver*, DriverQueue* queue) { queue->make_available(0xffff); });
  }
  SECTION("a successor outside the table") {
    survives<Harness>([](Driver* driver, DriverQueue* queue) {
      queue->write_descriptor(0, {driver->allocate(64).value, 64, virtio::kDescNext, 0x4000});
      queue->make_available(0);
    });
  }
  SECTION("a buffer outside RAM") {
    survives<Harness>([](Driver*, DriverQueue* queue) {
      queue->write_descriptor(0, {uint64_t{1} << 40, 64, 0, 0});
      queue->make_available(0);
    });
  }
  SECTION("a buffer that wraps the address space") {
    survives<Harness>([](Driver*, DriverQueue* queue) {
      queue->write_descriptor(0, {std::numeric_limits<uint64_t>::max() - 8, 64, 0, 0});
      queue->make_available(0);
    });
  }
  SECTION("an available index that jumps") {
    survives<Harness>([](Driver*, DriverQueue* queue) {
      queue->set_avail_index(static_cast<uint16_t>(queue->avail_index() + 0x4000));
    });
  }
  SECTION("a readable buffer after a writable one") {
    survives<Harness>([](Driver* driver, DriverQueue* queue) {
      const GuestAddr page = driver->allocate(4096);
      queue->write_descriptor(0, {page.value, 64, virtio::kDescNext | virtio::kDescWrite, 1});
      queue->write_descriptor(1, {page.value, 64, 0, 0});
      queue->make_available(0);
    });
  }
  SECTION("an indirect table inside an indirect table") {
    survives<Harness>([](Driver* driver, DriverQueue* queue) {
      const GuestAddr table = driver->allocate(4096);
      const virtio::Descriptor self{table.value, 16, virtio::kDescIndirect, 0};
      must(driver->memory().write_object(table, self));
      queue->write_descriptor(0, self);
      queue->make_available(0);
    });
  }
}

template <typename Harness>
void bounds_the_config_space() {
  Machine<Harness> machine;
  virtio::VirtioDevice* device = machine.transport->device();
  REQUIRE(machine.driver.bring_up());
  std::array<std::byte, 8> data{};
  for (const uint64_t offset :
       {uint64_t{0xf8}, uint64_t{0x100}, uint64_t{1} << 32, std::numeric_limits<uint64_t>::max()}) {
    data.fill(std::byte{0xaa});
    device->read_config(offset, data);
    CHECK(data == std::array<std::byte, 8>{});
    device->write_config(offset, data);
  }
  for (uint64_t offset = 0; offset < 0x100; ++offset) {  // every width at every offset
    for (const size_t width : {1u, 2u, 4u, 8u}) {
      machine.transport->bus_read(virtio::reg::kConfig + offset, std::span(data).first(width));
      machine.transport->bus_write(virtio::reg::kConfig + offset, std::span(data).first(width));
    }
  }
  machine.check_works();
}

template <typename Harness>
void ignores_notifications_it_must_not_serve() {
  Machine<Harness> machine;
  VirtioDriver& driver = machine.driver;
  driver.notify(0);
  REQUIRE(driver.negotiate());
  driver.notify(0);
  driver.set_up_queues();
  driver.notify(Harness::kBreakableQueue);
  driver.add_status(virtio::kStatusDriverOk);
  driver.notify(1000);
  driver.notify(0xffffffff);
  CHECK(machine.transport->metrics().refused_accesses == 5);
  CHECK(machine.transport->metrics().notifications == 0);
  machine.check_works();
}

template <typename Harness>
void survives_destruction_in_the_middle_of_work() {
  Machine<Harness> machine;
  REQUIRE(machine.driver.bring_up());
  machine.harness.start_work(&machine.driver);
  machine.transport.reset();
}

}  // namespace ramet::testing::contract

#define RAMET_CONTRACT_CASE(device, sentence, Harness, function) \
  TEST_CASE(device " device " sentence) { ramet::testing::contract::function<Harness>(); }

#define RAMET_VIRTIO_DEVICE_CONTRACT(device, Harness)                                            \
  RAMET_CONTRACT_CASE(device, "negotiates features within what it offers", Harness,              \
                      negotiates_features)                                                       \
  RAMET_CONTRACT_CASE(device, "is as first made after a reset", Harness,                         \
                      reset_restores_the_initial_state)                                          \
  RAMET_CONTRACT_CASE(device, "works again after a reset", Harness, works_again_after_a_reset)   \
  RAMET_CONTRACT_CASE(device, "refuses a second activation and works on", Harness,               \
                      refuses_a_second_activation)                                               \
  RAMET_CONTRACT_CASE(device, "loses no work when saved and restored in the middle of it",       \
                      Harness, saves_and_restores_in_the_middle_of_work)                         \
  RAMET_CONTRACT_CASE(device, "can be saved and restored at each step before it is active",      \
                      Harness, saves_and_restores_before_it_is_active)                           \
  RAMET_CONTRACT_CASE(device, "refuses a save while it runs and goes on after one", Harness,     \
                      goes_on_after_a_save)                                                      \
  RAMET_CONTRACT_CASE(device, "raises again, once restored, the interrupt that was pending",     \
                      Harness, raises_again_what_was_pending)                                    \
  RAMET_CONTRACT_CASE(device, "asks for a reset when its ring is broken, and recovers by it",    \
                      Harness, survives_hostile_rings)                                           \
  RAMET_CONTRACT_CASE(device, "reads zeros outside its configuration space", Harness,            \
                      bounds_the_config_space)                                                   \
  RAMET_CONTRACT_CASE(device, "ignores notifications before DRIVER_OK and of queues it has not", \
                      Harness, ignores_notifications_it_must_not_serve)                          \
  RAMET_CONTRACT_CASE(device, "can be destroyed in the middle of work", Harness,                 \
                      survives_destruction_in_the_middle_of_work)

#endif  // RAMET_TESTS_SUPPORT_DEVICE_CONTRACT_H_
