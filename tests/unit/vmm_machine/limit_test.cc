// Rates in whole numbers, what a governor makes of them, and how a limit that was hit reads.
#include "vmm/machine/limit.h"

#include <limits>
#include <set>

#include <catch2/catch.hpp>

#include "vmm/machine/governor.h"
#include "vmm/machine/rate_meter.h"

using namespace ramet;

namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSecond = 1'000 * kMs;
constexpr uint64_t kStart = 5'000 * kSecond;

// Takes one at a time for `ns`, waiting as it is told to; says how many there were.
uint64_t take_for(RateMeter* meter, uint64_t* now, uint64_t ns) {
  uint64_t taken = 0;
  for (const uint64_t end = *now + ns; *now < end; ++taken) {
    const RateMeter::Answer answer = meter->take(1, *now);
    REQUIRE(answer.granted == 1);
    *now = std::max(*now + 10, answer.wait_until_ns);  // an event takes 10 ns by itself
  }
  return taken;
}

}  // namespace

TEST_CASE("a rate that holds back gives a tenth of a second's worth at once, then the rate") {
  for (const uint64_t rate : {uint64_t{1}, uint64_t{7}, uint64_t{1'000}, uint64_t{200'000}}) {
    RateMeter meter({.per_second = rate});
    uint64_t now = kStart;
    const uint64_t seconds = rate < 10 ? 50 : 5;
    const uint64_t taken = take_for(&meter, &now, seconds * kSecond);
    INFO("rate " << rate);
    CHECK(taken >= rate * seconds);
    CHECK(taken <= rate * seconds + rate / 10 + 2);
  }
}

TEST_CASE("what is not used in quiet times is not saved up beyond a tenth of a second") {
  RateMeter meter({.per_second = 1'000});
  uint64_t now = kStart;
  take_for(&meter, &now, kSecond);
  now += 3'600 * kSecond;
  CHECK(take_for(&meter, &now, kMs) <= 102);
}

TEST_CASE("what was taken at once beyond a rate is waited for to the last of it") {
  RateMeter meter({.per_second = 1'000});
  const RateMeter::Answer answer = meter.take(5'100, kStart);
  CHECK(answer.granted == 5'100);
  CHECK(answer.wait_until_ns == kStart + 5 * kSecond);
}

TEST_CASE("a rate that ends grants no more than itself in a second, and says what came") {
  RateMeter meter({.per_second = 100, .ends = true});
  for (int i = 0; i < 10; ++i) {
    CHECK(meter.take(10, kStart + static_cast<uint64_t>(i) * 90 * kMs).granted == 10);
  }
  const RateMeter::Answer over = meter.take(10, kStart + 999 * kMs);
  CHECK(over.granted == 0);
  CHECK(over.used == 110);
  CHECK(meter.take(10, kStart + kSecond).granted == 10);  // the next second
}

TEST_CASE("no rate, and one beyond what can be counted, grant everything at once") {
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  for (const uint64_t rate : {uint64_t{0}, RateMeter::kMaxPerSecond, kMost}) {
    for (const bool ends : {false, true}) {
      RateMeter meter({.per_second = rate, .ends = ends});
      CHECK_FALSE(meter.limits());
      for (int i = 0; i < 3; ++i) {
        const RateMeter::Answer answer = meter.take(kMost, kStart);
        CHECK(answer.granted == kMost);
        CHECK(answer.wait_until_ns == 0);
      }
    }
  }
}

TEST_CASE("a count beyond what the arithmetic holds is waited for at least a second, never wraps") {
  RateMeter meter({.per_second = RateMeter::kMaxPerSecond - 1});
  const uint64_t count = std::numeric_limits<uint64_t>::max();
  CHECK(meter.take(count, kStart).wait_until_ns > kStart + kSecond / 2);
}

TEST_CASE("a governor without rates leases more exits than there will be, and nobody waits") {
  Governor governor;
  CHECK(governor.lease_exits(kStart).exits == std::numeric_limits<uint64_t>::max());
  CHECK_FALSE(governor.counts_interrupts());
  CHECK(governor.wait_until_ns() == 0);
}

TEST_CASE("the vCPUs of one machine share one rate of exits") {
  Governor governor;
  governor.set_limits({.exits = {.per_second = 1'000, .ends = true}});
  uint64_t leased = 0;
  std::optional<LimitHit> hit;
  for (int i = 0; i < 2'000 && !hit; ++i) {
    const Governor::Lease lease = governor.lease_exits(kStart);
    leased += lease.exits;
    hit = lease.hit;
  }
  CHECK(leased == 1'000);
  REQUIRE(hit.has_value());
  CHECK(*hit == LimitHit{LimitKind::kExitRate, 1'000, 1'001});
}

TEST_CASE("exits, interrupts and processor time above their rates make the vCPUs wait") {
  Governor governor;
  SECTION("exits") {
    governor.set_limits({.exits = {.per_second = 1'000}});
    for (int i = 0; i < 200; ++i) {
      CHECK(governor.lease_exits(kStart).exits >= 1);
    }
    CHECK(governor.wait_until_ns() == kStart + 100 * kMs);
  }
  SECTION("interrupts") {
    governor.set_limits({.interrupts = {.per_second = 1'000}});
    CHECK(governor.counts_interrupts());
    for (int i = 0; i < 200; ++i) {
      CHECK_FALSE(governor.count_interrupt(kStart));
    }
    CHECK(governor.wait_until_ns() == kStart + 100 * kMs);
  }
  SECTION("processor time: half a processor, and 600 ms of it at once") {
    governor.set_limits({.cpu = {.per_second = kSecond / 2}});
    const Governor::CpuAnswer answer = governor.count_cpu(600 * kMs, kStart);
    CHECK(answer.wait);
    CHECK_FALSE(answer.hit);
    CHECK(governor.wait_until_ns() == kStart + 1'100 * kMs);
  }
  const uint64_t until = governor.wait_until_ns();
  governor.waited(until - 1);  // somebody waited for less
  CHECK(governor.wait_until_ns() == until);
  governor.waited(until);
  CHECK(governor.wait_until_ns() == 0);
}

TEST_CASE("interrupts and processor time above a rate that ends are a hit with the figures") {
  Governor governor;
  governor.set_limits({.interrupts = {.per_second = 2, .ends = true},
                       .cpu = {.per_second = kSecond / 2, .ends = true}});
  CHECK_FALSE(governor.count_interrupt(kStart));
  CHECK_FALSE(governor.count_interrupt(kStart));
  CHECK(governor.count_interrupt(kStart) == LimitHit{LimitKind::kIrqRate, 2, 3});
  CHECK_FALSE(governor.count_cpu(400 * kMs, kStart).hit);
  CHECK(governor.count_cpu(200 * kMs, kStart + 300 * kMs).hit ==
        LimitHit{LimitKind::kCpuRate, kSecond / 2, 600 * kMs});
}

TEST_CASE("a limit that was hit reads with its figures, in units that tell them apart") {
  CHECK(describe({LimitKind::kPrivateMemory, 64 << 20, (71 << 20) + 100'000}) ==
        "private memory: 64 MiB allowed, 71.1 MiB used");
  CHECK(describe({LimitKind::kPrivateMemory, 64 << 20, (64 << 20) + 1}) ==
        "private memory: 64 MiB allowed, 64.1 MiB used");
  CHECK(describe({LimitKind::kExecOutput, 512, 4096}) ==
        "output of one command: 512 bytes allowed, 4 KiB used");
  CHECK(describe({LimitKind::kWallClock, 30 * kSecond, 30 * kSecond + 3 * kMs}) ==
        "wall clock: 30 s allowed, 30.1 s used");
  CHECK(describe({LimitKind::kCpuTime, 500 * kMs, 508 * kMs}) ==
        "processor time: 500 ms allowed, 508 ms used");
  CHECK(describe({LimitKind::kExitRate, 1'000, 1'001}) ==
        "exits in one second: 1000 allowed, 1001 used");
  CHECK(describe({LimitKind::kDiskOverlay, 1 << 20, (2 << 20) - 1}) ==
        "disk: 1 MiB allowed, 2.0 MiB used");
  std::set<std::string_view> names;
  for (const LimitKind kind : kLimitKinds) {
    names.insert(name_of(kind));
  }
  CHECK(names.size() == kLimitKinds.size());
}
