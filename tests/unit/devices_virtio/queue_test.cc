#include "devices/virtio/queue.h"

#include <thread>

#include <catch2/catch.hpp>

#include "tests/support/virtio_driver.h"

using namespace ramet;
using namespace ramet::testing;
using namespace ramet::virtio;

namespace {

constexpr uint16_t kSize = 8;
constexpr QueueLayout kLayout{kSize, {0x1000}, {0x2000}, {0x3000}};

QueueConfig config_of(const QueueLayout& layout) {
  QueueConfig config(256);
  *config.mutable_layout() = layout;
  config.set_ready(true);
  return config;
}

struct Ring {
  std::unique_ptr<GuestMemory> memory = make_guest_memory();
  DriverQueue driver{memory.get(), kLayout};

  Queue activate(bool event_idx = false) {
    return must(config_of(kLayout).activate(memory.get(), {false, event_idx}));
  }
  uint16_t add() { return driver.add({{GuestAddr{0x8000}, 16, false}}); }
};

}  // namespace

TEST_CASE("a queue of a bad size, alignment or place is refused") {
  const auto memory = make_guest_memory(0x10000);
  const auto refused = [&](auto change) {
    QueueLayout layout = kLayout;
    change(&layout);
    return !config_of(layout).activate(memory.get(), {}).ok();
  };
  CHECK_FALSE(refused([](QueueLayout*) {}));
  for (const int size : {0, 3, 7, 512, 0x8000, 0xffff}) {
    CHECK(refused([&](QueueLayout* layout) { layout->size = static_cast<uint16_t>(size); }));
  }
  CHECK(refused([](QueueLayout* layout) { layout->desc.value += 8; }));
  CHECK(refused([](QueueLayout* layout) { layout->avail.value += 1; }));
  CHECK(refused([](QueueLayout* layout) { layout->used.value += 2; }));
  for (const uint64_t place : {uint64_t{0xfff0}, uint64_t{0x10000}, ~uint64_t{0} & ~uint64_t{15}}) {
    CHECK(refused([&](QueueLayout* layout) { layout->desc.value = place; }));
    CHECK(refused([&](QueueLayout* layout) { layout->avail.value = place; }));
    CHECK(refused([&](QueueLayout* layout) { layout->used.value = place; }));
  }
  CHECK_FALSE(QueueConfig(256).activate(memory.get(), {}).ok());
  QueueConfig small(4);
  *small.mutable_layout() = kLayout;
  small.set_ready(true);
  CHECK_FALSE(small.activate(memory.get(), {}).ok());
}

TEST_CASE("chains come in order, and go back in any") {
  Ring ring;
  Queue queue = ring.activate();
  const uint16_t first = ring.add();
  const uint16_t second = ring.add();
  CHECK(must(queue.begin_batch()) == 2);
  CHECK(must(queue.pop())->head() == first);
  CHECK(must(queue.pop())->head() == second);
  CHECK_FALSE(must(queue.pop()).has_value());
  CHECK(queue.in_flight() == 2);
  must(queue.push_used(second, 7));
  must(queue.push_used(first, 0));
  const auto used = ring.driver.take_used();
  CHECK(used->id == second);
  CHECK(used->length == 7);
  CHECK(ring.driver.take_used()->id == first);
  CHECK(queue.in_flight() == 0);
  CHECK(queue.position() == 2);
}

TEST_CASE("indices go round past 65535") {
  Ring ring;
  Queue queue = ring.activate(true);
  for (int i = 0; i < 70'000; ++i) {
    const uint16_t head = ring.add();
    REQUIRE(must(queue.begin_batch()) == 1);
    REQUIRE(must(queue.pop())->head() == head);
    must(queue.push_used(head, 1));
  }
  CHECK(ring.driver.used_index() == static_cast<uint16_t>(70'000));
}

TEST_CASE("a batch ends where the available index stood when it began") {
  Ring ring;
  Queue queue = ring.activate();
  ring.add();
  CHECK(must(queue.begin_batch()) == 1);
  ring.add();
  CHECK(must(queue.pop()).has_value());
  CHECK_FALSE(must(queue.pop()).has_value());
  CHECK(must(queue.begin_batch()) == 1);
}

TEST_CASE("an available index that runs ahead or goes back is an error, and nothing is popped") {
  for (const int jump : {kSize + 1, 0x7fff, 0x8000, 0xffff}) {
    Ring ring;
    Queue queue = ring.activate();
    ring.driver.set_avail_index(static_cast<uint16_t>(jump));
    CHECK(queue.begin_batch().status().code() == absl::StatusCode::kInvalidArgument);
    CHECK_FALSE(must(queue.pop()).has_value());
  }
}

TEST_CASE("more chains in use than the queue has entries is an error") {
  Ring ring;
  Queue queue = ring.activate();
  for (int i = 0; i < kSize; ++i) {
    ring.add();
  }
  CHECK(must(queue.begin_batch()) == kSize);
  for (int i = 0; i < kSize; ++i) {
    CHECK(must(queue.pop()).has_value());
  }
  ring.add();
  CHECK(must(queue.begin_batch()) == 1);
  CHECK_FALSE(queue.pop().ok());
}

TEST_CASE("pushing what was not popped is our bug and changes nothing") {
  Ring ring;
  Queue queue = ring.activate();
  CHECK(queue.push_used(0, 0).code() == absl::StatusCode::kInternal);
  CHECK(ring.driver.used_index() == 0);
}

TEST_CASE("without EVENT_IDX the flags decide on interrupts and notifications") {
  Ring ring;
  Queue queue = ring.activate();
  CHECK_FALSE(must(queue.should_interrupt()));
  const auto serve_one = [&] {
    const uint16_t head = ring.add();
    must(queue.begin_batch().status());
    must(queue.pop().status());
    must(queue.push_used(head, 0));
    return must(queue.should_interrupt());
  };
  CHECK(serve_one());
  CHECK_FALSE(must(queue.should_interrupt()));  // it was said already
  ring.driver.set_avail_flags(kAvailNoInterrupt);
  CHECK_FALSE(serve_one());
  must(queue.suppress_notify());
  CHECK(ring.driver.used_flags() == kUsedNoNotify);
  must(queue.begin_batch().status());
  CHECK(ring.driver.used_flags() == 0);
}

TEST_CASE("with EVENT_IDX one interrupt comes when the used index passes the event") {
  Ring ring;
  Queue queue = ring.activate(true);
  const auto serve_one = [&] {
    const uint16_t head = ring.add();
    must(queue.begin_batch().status());
    must(queue.pop().status());
    must(queue.push_used(head, 0));
    return must(queue.should_interrupt());
  };
  ring.driver.set_used_event(2);
  CHECK_FALSE(serve_one());
  CHECK_FALSE(serve_one());
  CHECK(serve_one());
  CHECK_FALSE(serve_one());
  CHECK(ring.driver.avail_event() == 4);  // notify me of the entry with this index
  must(queue.suppress_notify());
  CHECK(ring.driver.avail_event() == 3);
}

TEST_CASE("a queue goes on where it was saved, and refuses a position that its rings contradict") {
  Ring ring;
  {
    Queue queue = ring.activate();
    const uint16_t head = ring.add();
    ring.add();
    must(queue.begin_batch().status());
    must(queue.pop().status());
    must(queue.push_used(head, 0));
    CHECK(queue.position() == 1);
  }
  const QueueConfig config = config_of(kLayout);
  for (const int position : {0, 2, 3, 0x8000, 0xffff}) {
    CHECK_FALSE(config.activate_at(ring.memory.get(), {}, static_cast<uint16_t>(position)).ok());
  }
  Queue queue = must(config.activate_at(ring.memory.get(), {}, 1));
  CHECK(must(queue.begin_batch()) == 1);
  CHECK(must(queue.pop())->head() == 1);
  ring.driver.set_avail_index(100);
  CHECK_FALSE(config.activate_at(ring.memory.get(), {}, 1).ok());
}

TEST_CASE("a driver and a device on two threads lose no chain and no notification") {
  Ring ring;
  Queue queue = ring.activate(true);
  constexpr uint16_t kChains = 20'000;
  std::atomic<uint32_t> kicks{1};
  std::atomic<bool> done{false};
  std::thread device([&] {
    uint16_t served = 0;
    uint32_t seen = 0;
    while (served < kChains && !done) {
      if (kicks.load() == seen) {
        continue;
      }
      seen = kicks.load();
      must(queue.begin_batch().status());
      while (const auto chain = must(queue.pop())) {
        must(queue.push_used(chain->head(), 0));
        ++served;
      }
    }
  });
  const auto wait_until = [&](auto condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition() && std::chrono::steady_clock::now() < deadline) {
    }
    return condition();
  };
  bool lost = false;
  for (uint16_t i = 0; i < kChains && !lost; ++i) {
    lost = !wait_until([&] { return static_cast<uint16_t>(i - ring.driver.used_index()) < kSize; });
    ring.add();
    std::atomic_thread_fence(std::memory_order_seq_cst);
    if (ring.driver.avail_event() == i) {  // one entry was added: the one with index i
      ++kicks;
    }
  }
  lost = lost || !wait_until([&] { return ring.driver.used_index() == kChains; });
  done = true;
  device.join();
  CHECK_FALSE(lost);
}
