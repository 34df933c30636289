#include "devices/virtio/state.h"

#include <catch2/catch.hpp>

#include "devices/virtio/mmio.h"
#include "tests/support/virtio_driver.h"
#include "tests/unit/devices_virtio/fake_device.h"

using namespace ramet;
using namespace ramet::testing;
using namespace ramet::virtio;

namespace {

// The state of a running device that has served three chains of queue 1, with an interrupt pending.
struct Saved {
  Saved() {
    const auto transport = must(MmioTransport::create(std::make_unique<FakeDevice>(), parts()));
    VirtioDriver driver(memory.get(), transport.get());
    REQUIRE(driver.bring_up());
    const GuestAddr buffer = driver.allocate(64);
    for (int i = 0; i < 3; ++i) {
      driver.queue(1).add({{buffer, 64, true}});
    }
    driver.notify(1);
    transport->quiesce();
    state = must(transport->save());
  }
  TransportParts parts() { return {memory.get(), &irq, nullptr}; }
  StatusOr<std::unique_ptr<MmioTransport>> restore(const TransportState& from) {
    return MmioTransport::create_from_state(std::make_unique<FakeDevice>(), parts(), from);
  }

  std::unique_ptr<GuestMemory> memory = make_guest_memory();
  CountingIrq irq;
  TransportState state;
};

}  // namespace

TEST_CASE("a saved transport comes back bit for bit and raises its pending interrupt once") {
  Saved saved;
  CHECK(saved.state.interrupt_status == kInterruptUsedRing);
  CHECK(saved.state.queues[1].position == 3);
  CHECK(saved.state.device == std::vector<std::byte>{std::byte{42}});
  const auto decoded = must(decode_transport_state(encode_transport_state(saved.state)));
  CHECK(decoded == saved.state);
  const uint64_t before = saved.irq.count();
  const auto transport = must(saved.restore(decoded));
  CHECK(must(transport->save()) == saved.state);
  CHECK(saved.irq.count() == before);
  transport->resume();
  CHECK(saved.irq.count() == before + 1);
  VirtioDriver driver(saved.memory.get(), transport.get());
  CHECK(driver.take_interrupts() == kInterruptUsedRing);
}

TEST_CASE("states that contradict themselves, the device or memory are refused") {
  Saved saved;
  const auto refused = [&](auto change) {
    TransportState state = saved.state;
    change(&state);
    const auto result = saved.restore(state);
    return !result.ok() && !result.status().message().empty();
  };
  CHECK_FALSE(refused([](TransportState*) {}));
  CHECK(refused([](TransportState* s) { s->type = DeviceType::kBlock; }));
  CHECK(refused([](TransportState* s) { s->queues.pop_back(); }));
  CHECK(refused([](TransportState* s) { s->queues.emplace_back(); }));
  CHECK(refused([](TransportState* s) { s->device_features |= 1; }));
  CHECK(refused([](TransportState* s) { s->driver_features |= 1; }));
  CHECK(refused([](TransportState* s) { s->driver_features &= ~kFeatureVersion1; }));
  CHECK(refused([](TransportState* s) { s->status = kStatusDriverOk; }));
  CHECK(refused([](TransportState* s) { s->status &= ~kStatusFeaturesOk; }));
  CHECK(refused([](TransportState* s) { s->status &= ~kStatusDriver; }));
  CHECK(refused([](TransportState* s) { s->status = 0; }));
  CHECK(refused([](TransportState* s) { s->status &= ~kStatusDriverOk; }));  // a position is left
  CHECK(refused([](TransportState* s) { s->queues[1].position = 4; }));
  CHECK(refused([](TransportState* s) { s->queues[1].ready = false; }));
  CHECK(refused([](TransportState* s) { s->queues[0].layout.size = 128; }));
  CHECK(refused([](TransportState* s) { s->queues[0].layout.size = 33; }));
  CHECK(refused([](TransportState* s) { s->queues[0].layout.size = 0; }));
  for (int queue = 0; queue < 2; ++queue) {
    const auto at = static_cast<size_t>(queue);
    CHECK(refused([&](TransportState* s) { s->queues[at].layout.desc.value = ~uint64_t{15}; }));
    CHECK(refused([&](TransportState* s) { s->queues[at].layout.avail.value = 1; }));
    CHECK(refused([&](TransportState* s) { s->queues[at].layout.used.value = 1ull << 50; }));
  }
}

TEST_CASE("damaged state bytes are refused at every length and in every enum") {
  const Saved saved;
  const auto bytes = encode_transport_state(saved.state);
  for (size_t size = 0; size < bytes.size(); ++size) {
    CHECK_FALSE(decode_transport_state(std::span(bytes).first(size)).ok());
  }
  const auto refused = [&](auto change) {
    TransportState state = saved.state;
    change(&state);
    return !decode_transport_state(encode_transport_state(state)).ok();
  };
  CHECK(refused([](TransportState* s) { s->type = DeviceType::kNone; }));
  CHECK(refused([](TransportState* s) { s->type = static_cast<DeviceType>(6); }));
  CHECK(refused([](TransportState* s) { s->status |= 16; }));
  CHECK(refused([](TransportState* s) { s->interrupt_status = 4; }));
  CHECK(refused([](TransportState* s) { s->queues.resize(kMaxQueues + 1); }));
  CHECK(refused([](TransportState* s) { s->queues[0].layout.size = kMaxQueueSize + 1; }));
  CHECK(refused([](TransportState* s) { s->device.resize(kMaxDeviceStateBytes + 1); }));
}

TEST_CASE("a device that failed comes back inactive and waits for its reset") {
  Saved saved;
  saved.state.status |= kStatusNeedsReset;
  saved.state.queues[1].position = 0;
  const auto transport = must(saved.restore(saved.state));
  CHECK(dynamic_cast<FakeDevice*>(transport->device())->activations == 0);
  CHECK(must(transport->save()) == saved.state);
  VirtioDriver driver(saved.memory.get(), transport.get());
  CHECK(driver.needs_reset());
  CHECK(driver.bring_up());
}
