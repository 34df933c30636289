// fork() on a host that is short of memory, descriptors or threads: it waits, gives back what can
// be spared, and is then refused with a time to try again; sandboxes that live go on.
#include <atomic>
#include <cerrno>
#include <thread>

#include <catch2/catch.hpp>

#include "bench/small_guest.h"
#include "lib/core/engine.h"
#include "lib/fork/fork.h"
#include "lib/instance/reasons.h"
#include "tests/kvm/need_kvm.h"
#include "tests/support/settle.h"
#include "vmm/base/clock.h"
#include "vmm/base/fault_plan.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kGiB = uint64_t{1} << 30;
constexpr uint64_t kMemoryBytes = uint64_t{16} << 20;

struct Made {
  std::shared_ptr<std::atomic<bool>> is_short = std::make_shared<std::atomic<bool>>(false);
  std::shared_ptr<Engine> engine;
  std::shared_ptr<const TemplateData> from;

  Made() {
    auto made =
        Engine::create({.confinement_required = true, .pressure_source = [state = is_short] {
                          return PressureFigures{.available_bytes = *state ? 0 : 10 * kGiB,
                                                 .total_bytes = 20 * kGiB};
                        }});
    REQUIRE(made.ok());
    engine = *std::move(made);
    auto small = bench::make_small_template(engine.get(), kMemoryBytes);
    REQUIRE(small.ok());
    from = *std::move(small);
  }
  // A guest that has no agent: what fork_sandbox() does before it asks the agent is what counts.
  Status fork(uint64_t timeout_ns) const {
    return fork_sandbox(engine, *from, {.ready_deadline_ns = monotonic_ns() + timeout_ns}).status();
  }
  // Leaves the thread of its vCPU behind, idle.
  void fork_and_end() const { REQUIRE(bench::fork_small_once(engine.get(), *from).ok()); }
};

}  // namespace

TEST_CASE("a fork on a host without memory waits, and is refused at its deadline") {
  RAMET_NEED_KVM(kvm);
  const Made made;
  made.fork_and_end();
  CHECK(made.engine->jail().idle() > 0);
  *made.is_short = true;
  std::this_thread::sleep_for(std::chrono::nanoseconds(2 * PressureGate::kFreshNs));
  const uint64_t start = monotonic_ns();
  const Status status = made.fork(100 * kMs);
  CHECK(monotonic_ns() - start >= 100 * kMs);
  INFO(status);
  CHECK(reason_of(status) == reason::kHostBusy);
  CHECK(retry_after_ms_of(status).has_value());
  CHECK(std::string(status.message()).find("fork: the host is busy: 0 MiB") == 0);
  CHECK(made.engine->jail().idle() == 0);  // given up
}

TEST_CASE("a fork that waited goes on once the host has memory again") {
  RAMET_NEED_KVM(kvm);
  const Made made;
  *made.is_short = true;
  std::thread relief([&] {
    while (made.engine->gate().waiting() == 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    *made.is_short = false;
  });
  const Status status = made.fork(30'000 * kMs);
  relief.join();
  INFO(status);
  // Past the gate: the guest ran, and powered itself off instead of answering.
  CHECK(reason_of(status) == reason::kGuestDied);
}

TEST_CASE("want of threads, descriptors or memory: once is made good, for ever is a busy host") {
  RAMET_NEED_KVM(kvm);
  const Made made;
  struct Want {
    sys::Call call;
    int error;
  };
  for (const Want& want : {Want{sys::Call::kThreadCreate, EAGAIN}, Want{sys::Call::kIoctl, EMFILE},
                           Want{sys::Call::kIoctl, ENFILE}, Want{sys::Call::kIoctl, ENOMEM},
                           Want{sys::Call::kMmap, ENOMEM}}) {
    for (const bool sticky : {false, true}) {
      made.fork_and_end();
      made.engine->relieve();  // so that a thread has to be made
      const size_t threads = thread_count();
      const size_t descriptors = descriptor_count();
      sys::FaultPlan plan(want.call, 1, want.error, sticky);
      plan.arm();
      const Status status = made.fork(30'000 * kMs);
      plan.disarm();
      REQUIRE(plan.fired());
      INFO("call " << static_cast<int>(want.call) << " errno " << want.error << ": " << status);
      CHECK(reason_of(status) == (sticky ? reason::kHostBusy : reason::kGuestDied));
      CHECK(retry_after_ms_of(status).has_value() == sticky);
      REQUIRE(made.engine->drain(monotonic_ns() + 30'000 * kMs).ok());
      made.engine->relieve();
      // Fewer where the one before was still leaving when they were counted.
      CHECK(settled(thread_count, threads) <= threads);
      CHECK(settled(descriptor_count, descriptors) <= descriptors);
    }
  }
}

TEST_CASE("sandboxes that live go on while forks are refused") {
  RAMET_NEED_KVM(kvm);
  const Made made;
  const auto generation = new_generation_id();
  REQUIRE(generation.ok());
  auto lives = restore_instance(made.engine.get(), *made.from, *generation, {});
  REQUIRE(lives.ok());
  *made.is_short = true;
  std::this_thread::sleep_for(std::chrono::nanoseconds(2 * PressureGate::kFreshNs));
  CHECK_FALSE(made.fork(50 * kMs).ok());
  // It can still be run to the end that its program has.
  REQUIRE((*lives)->resume().ok());
  const auto end = (*lives)->machine().wait_end(monotonic_ns() + 30'000 * kMs);
  REQUIRE(end.has_value());
  CHECK(end->reason == EndReason::kReset);
}
