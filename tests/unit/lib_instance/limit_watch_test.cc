// Limits of time and memory: when they are looked at, what ends a machine, and who is called when.
#include "lib/instance/limit_watch.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <future>
#include <optional>

#include <catch2/catch.hpp>

#include "tests/support/skip.h"
#include "vmm/base/syscall.h"

using namespace ramet;

namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSecond = 1'000 * kMs;
constexpr uint64_t kMiB = 1 << 20;

std::atomic<uint64_t> fake_now{0};
uint64_t fake_clock() { return fake_now; }

class FakeMachine : public WatchedMachine {
 public:
  StatusOr<uint64_t> cpu_ns() override {
    ++cpu_looks;
    return cpu;
  }
  StatusOr<uint64_t> private_bytes(const Pagemap&) override {
    ++memory_looks;
    fake_now += memory_cost;
    return memory;
  }
  void count_cpu(uint64_t more_ns) override { counted += more_ns; }
  void end(const MachineEnd& end) override {
    if (on_end) {
      on_end();
    }
    ended = end;
  }
  std::shared_ptr<jail::Tenant> tenant() override { return nullptr; }

  StatusOr<uint64_t> cpu = 0;
  StatusOr<uint64_t> memory = 0;
  uint64_t memory_cost = 0;
  int cpu_looks = 0;
  int memory_looks = 0;
  uint64_t counted = 0;
  std::function<void()> on_end = {};
  std::optional<MachineEnd> ended;
};

// Lets the time go on in steps of a millisecond.
void pass(LimitWatch* watch, uint64_t ns) {
  for (uint64_t i = 0; i < ns / kMs; ++i) {
    fake_now += kMs;
    watch->run_due();
  }
}

}  // namespace

TEST_CASE("a machine ends at its wall clock, not before, and is looked at once for it") {
  LimitWatch watch(nullptr, fake_clock);
  FakeMachine machine;
  fake_now = 100 * kSecond;
  const auto id = watch.add(&machine, {.wall_ns = 30 * kSecond}, 1);
  REQUIRE(id.ok());
  CHECK(watch.run_due() == 130 * kSecond);
  fake_now = 130 * kSecond - 1;
  watch.run_due();
  CHECK_FALSE(machine.ended);
  fake_now = 130 * kSecond + 5;
  watch.run_due();
  REQUIRE(machine.ended);
  CHECK(machine.ended->reason == EndReason::kLimit);
  CHECK(machine.ended->limit == LimitHit{LimitKind::kWallClock, 30 * kSecond, 30 * kSecond + 5});
  CHECK(machine.cpu_looks == 0);
  CHECK(machine.memory_looks == 0);
  machine.ended.reset();
  pass(&watch, kSecond);
  CHECK_FALSE(machine.ended);  // told once
  watch.remove(*id);
}

TEST_CASE("processor time is looked at when it could be over, the later the more is left") {
  LimitWatch watch(nullptr, fake_clock);
  FakeMachine machine;
  fake_now = kSecond;
  const auto id = watch.add(&machine, {.cpu_ns = 8 * kSecond}, 4);
  REQUIRE(id.ok());
  CHECK(watch.run_due() == 3 * kSecond);  // four busy vCPUs use 8 s in 2 s
  machine.cpu = 4 * kSecond;
  fake_now = 3 * kSecond;
  CHECK(watch.run_due() == 4 * kSecond);
  machine.cpu = 8 * kSecond - kMs;
  fake_now = 4 * kSecond;
  CHECK(watch.run_due() == 4 * kSecond + LimitTracker::kShortestNs);
  CHECK_FALSE(machine.ended);
  machine.cpu = 8 * kSecond + 2 * kMs;
  fake_now = 5 * kSecond;
  watch.run_due();
  REQUIRE(machine.ended);
  CHECK(machine.ended->limit == LimitHit{LimitKind::kCpuTime, 8 * kSecond, 8 * kSecond + 2 * kMs});
  CHECK(machine.cpu_looks == 4);
  watch.remove(*id);
}

TEST_CASE("memory is looked at often near its limit, seldom far from it, and above it ends") {
  LimitWatch watch(nullptr, fake_clock);
  FakeMachine machine;
  fake_now = kSecond;
  const auto id = watch.add(&machine, {.private_bytes = 1'024 * kMiB}, 1);
  REQUIRE(id.ok());
  pass(&watch, kSecond);
  CHECK(machine.memory_looks == 1 + 10);  // each 100 ms
  machine.memory = 1'020 * kMiB;
  pass(&watch, 100 * kMs);
  machine.memory_looks = 0;
  pass(&watch, kSecond);
  CHECK(machine.memory_looks == 100);  // each 10 ms
  machine.memory = 1'024 * kMiB;       // all that it may
  pass(&watch, kSecond);
  CHECK_FALSE(machine.ended);
  machine.memory = 1'024 * kMiB + 4096;
  pass(&watch, 10 * kMs);
  REQUIRE(machine.ended);
  CHECK(machine.ended->limit ==
        LimitHit{LimitKind::kPrivateMemory, 1'024 * kMiB, 1'024 * kMiB + 4096});
  watch.remove(*id);
}

TEST_CASE("memory that takes long to look at is looked at seldom: a twentieth of a processor") {
  LimitWatch watch(nullptr, fake_clock);
  FakeMachine machine;
  machine.memory_cost = 10 * kMs;
  fake_now = kSecond;
  const auto id = watch.add(&machine, {.private_bytes = kMiB}, 1);
  REQUIRE(id.ok());
  machine.memory_looks = 0;
  pass(&watch, 2 * kSecond);
  CHECK(machine.memory_looks >= 9);
  CHECK(machine.memory_looks <= 11);
  watch.remove(*id);
}

TEST_CASE("a rate of processor time is told what was used since the last look") {
  LimitWatch watch(nullptr, fake_clock);
  FakeMachine machine;
  fake_now = kSecond;
  const auto id = watch.add(&machine, {.rates = {.cpu = {.per_second = kSecond / 2}}}, 1);
  REQUIRE(id.ok());
  pass(&watch, kSecond);
  CHECK(machine.cpu_looks <= 12);  // idle
  machine.cpu = 70 * kMs;
  pass(&watch, 100 * kMs);
  machine.cpu = 90 * kMs;
  pass(&watch, 10 * kMs);  // busy: at once
  CHECK(machine.counted == 90 * kMs);
  watch.remove(*id);
}

TEST_CASE("figures that cannot be had refuse a machine at first, and end it later") {
  LimitWatch watch(nullptr, fake_clock);
  FakeMachine machine;
  machine.memory = absl::PermissionDeniedError("no pagemap");
  const auto refused = watch.add(&machine, {.private_bytes = kMiB}, 1);
  CHECK(refused.status().code() == absl::StatusCode::kPermissionDenied);
  machine.memory = 0;
  const auto id = watch.add(&machine, {.private_bytes = kMiB}, 1);
  REQUIRE(id.ok());
  machine.memory = absl::InternalError("gone");
  pass(&watch, kSecond);
  REQUIRE(machine.ended);
  CHECK(machine.ended->reason == EndReason::kHostError);
  CHECK(machine.ended->detail.find("gone") != std::string::npos);
  watch.remove(*id);
}

TEST_CASE("a machine that is removed is not called again, and may be removed by its own end") {
  LimitWatch watch(nullptr, fake_clock);
  FakeMachine one;
  FakeMachine other;
  fake_now = kSecond;
  const auto first = watch.add(&one, {.wall_ns = kSecond}, 1);
  const auto second = watch.add(&other, {.wall_ns = kSecond}, 1);
  REQUIRE((first.ok() && second.ok()));
  one.on_end = [&] {
    watch.remove(*first);
    watch.remove(*second);
  };
  pass(&watch, 2 * kSecond);
  CHECK(one.ended);
  CHECK_FALSE(other.ended);
}

namespace {

struct Threaded {
  StatusOr<std::unique_ptr<jail::Jail>> jail =
      jail::Jail::create({.mode = jail::Mode::kOff, .max_idle = 0});
  LimitWatch watch{jail->get()};
};

}  // namespace

TEST_CASE("the thread finds the earliest of all that it watches, whatever their order") {
  Threaded made;
  FakeMachine late;
  FakeMachine soon;
  std::promise<void> ended;
  soon.on_end = [&] { ended.set_value(); };
  const auto first = made.watch.add(&late, {.wall_ns = 3'600 * kSecond}, 1);
  const auto second = made.watch.add(&soon, {.wall_ns = 20 * kMs}, 1);
  REQUIRE((first.ok() && second.ok()));
  REQUIRE(ended.get_future().wait_for(std::chrono::seconds(30)) == std::future_status::ready);
  made.watch.remove(*first);
  made.watch.remove(*second);
  CHECK_FALSE(late.ended);
}

TEST_CASE("a removal waits for the call that is going on") {
  Threaded made;
  FakeMachine machine;
  std::promise<void> called;
  std::promise<void> go_on;
  auto waits = go_on.get_future();
  machine.on_end = [&] {
    called.set_value();
    waits.wait();
  };
  const auto id = made.watch.add(&machine, {.wall_ns = kMs}, 1);
  REQUIRE(id.ok());
  REQUIRE(called.get_future().wait_for(std::chrono::seconds(30)) == std::future_status::ready);
  auto removed = std::async(std::launch::async, [&] { made.watch.remove(*id); });
  CHECK(removed.wait_for(std::chrono::milliseconds(50)) == std::future_status::timeout);
  go_on.set_value();
  REQUIRE(removed.wait_for(std::chrono::seconds(30)) == std::future_status::ready);
}

TEST_CASE("a thread that was refused a call is replaced, and its account is the machine's") {
  auto jail = jail::Jail::create({.max_idle = 0});
  REQUIRE(jail.ok());
  if ((*jail)->report().mode == jail::Mode::kOff || !(*jail)->report().counted) {
    RAMET_SKIP("this host grants no filter with a listener");
  }
  class Intruder : public FakeMachine {
   public:
    StatusOr<uint64_t> cpu_ns() override {
      if (cpu_looks++ != 0) {
        ::syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
      }
      return 0;
    }
    std::shared_ptr<jail::Tenant> tenant() override { return account; }
    std::promise<std::string> told;
    std::shared_ptr<jail::Tenant> account =
        std::make_shared<jail::Tenant>([this, first = true](const jail::RefusedCall& call) mutable {
          if (std::exchange(first, false)) {
            told.set_value(jail::describe(call));
          }
        });
  };
  LimitWatch watch(jail->get());
  Intruder intruder;
  FakeMachine other;
  std::promise<void> ended;
  other.on_end = [&] { ended.set_value(); };
  const auto first = watch.add(&intruder, {.cpu_ns = kMs}, 1);
  REQUIRE(first.ok());
  auto told = intruder.told.get_future();
  REQUIRE(told.wait_for(std::chrono::seconds(30)) == std::future_status::ready);
  CHECK(told.get().find("a limits thread was refused the system call socket(") == 0);
  watch.remove(*first);
  REQUIRE(watch.renew_refused().ok());
  REQUIRE(watch.renew_refused().ok());  // nothing more to renew
  const auto second = watch.add(&other, {.wall_ns = kMs}, 1);
  REQUIRE(second.ok());
  CHECK(ended.get_future().wait_for(std::chrono::seconds(30)) == std::future_status::ready);
  watch.remove(*second);
  intruder.account->close();
}

TEST_CASE("without a thread or a pagemap there is no watch, and a Status says so") {
  {
    Threaded made;
    FakeMachine machine;
    sys::FaultPlan plan(sys::Call::kThreadCreate, 1, EAGAIN);
    plan.arm();
    CHECK(made.watch.add(&machine, {.wall_ns = kSecond}, 1).status().code() ==
          absl::StatusCode::kUnavailable);
  }
  Threaded made;
  FakeMachine machine;
  sys::FaultPlan plan(sys::Call::kOpen, 1, EMFILE);
  plan.arm();
  CHECK(made.watch.add(&machine, {.private_bytes = kMiB}, 1).status().code() ==
        absl::StatusCode::kResourceExhausted);
}
