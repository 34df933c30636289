// Machines made ahead of need: how many there are, what a fork of one is, and that nothing stays.
#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <thread>

#include <catch2/catch.hpp>

#include "lib/instance/reasons.h"
#include "tests/kvm/helper_fixture.h"
#include "tests/kvm/need_kvm.h"
#include "tests/support/settle.h"
#include "vmm/base/clock.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

constexpr uint64_t kSecond = 1'000'000'000;

std::shared_ptr<const TemplateData> share(TemplateData data) {
  return std::make_shared<const TemplateData>(std::move(data));
}

// An engine and a template of a guest that counts, with its pool of shells.
struct Made {
  explicit Made(EngineConfig config, Program program = Program::kHello)
      : engine(make_engine(std::move(config))),
        from(share(make_template(engine.get(), program))),
        pool(engine->make_shells(from)) {}

  // True when so many stand ready, and no more come.
  bool settles_at(size_t count) const {
    const bool there = wait_for([&] { return pool->ready() == count; });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    return there && pool->ready() == count;
  }

  std::shared_ptr<Engine> engine;
  std::shared_ptr<const TemplateData> from;
  std::shared_ptr<ShellPool> pool;
};

}  // namespace

TEST_CASE("a pool is filled when it is asked to be, and again after a shell was taken") {
  RAMET_NEED_KVM(kvm);
  const Made made({.ready_shells = 3});
  CHECK(made.pool->take() == nullptr);
  CHECK(made.settles_at(0));
  made.pool->refill();
  CHECK(made.settles_at(3));
  CHECK(made.pool->take() != nullptr);
  CHECK(made.settles_at(2));
  made.pool->refill();
  CHECK(made.settles_at(3));
}

TEST_CASE("two machines of a template stand ready by default, from its first fork on") {
  RAMET_NEED_KVM(kvm);
  const Made made({});
  CHECK(made.pool->ready() == 0);
  made.pool->refill();
  CHECK(made.settles_at(2));
}

TEST_CASE("forks wait while the reaper is 64 machines behind, and are refused at their deadline") {
  RAMET_NEED_KVM(kvm);
  const Made made({.ready_shells = 0});
  std::promise<void> go;
  const auto gone = go.get_future().share();
  for (uint64_t i = 0; i < Engine::kMaxReaping; ++i) {
    CHECK(made.engine->admit(monotonic_ns() + kSecond).ok());
    made.engine->reap([gone] { gone.wait(); });
  }
  const Status late = made.engine->admit(monotonic_ns() + kSecond / 20);
  CHECK(reason_of(late) == reason::kHostBusy);
  CHECK(retry_after_ms_of(late).value_or(0) != 0);
  auto waits = std::async(std::launch::async,
                          [&] { return made.engine->admit(monotonic_ns() + 30 * kSecond); });
  CHECK(waits.wait_for(std::chrono::milliseconds(50)) == std::future_status::timeout);
  go.set_value();
  CHECK(waits.get().ok());
}

TEST_CASE("all pools of an engine together hold no more than its most") {
  RAMET_NEED_KVM(kvm);
  const Made made({.ready_shells = 3, .max_shells = 4});
  const auto other = made.engine->make_shells(made.from);
  made.pool->refill();
  CHECK(made.settles_at(3));
  other->refill();
  CHECK(wait_for([&] { return other->ready() == 1; }));
  other->refill();
  CHECK(made.settles_at(3));
  CHECK(other->ready() == 1);
  made.pool->drop();
  other->refill();
  CHECK(wait_for([&] { return other->ready() == 3; }));
}

TEST_CASE(
    "who waits for a shell gets the one that is made; without any to come it is told at once") {
  RAMET_NEED_KVM(kvm);
  const Made made({.ready_shells = 1});
  CHECK(made.pool->wait(monotonic_ns() + 30 * kSecond) != nullptr);
  const Made none({.ready_shells = 0});
  CHECK(none.pool->wait(0) == nullptr);
}

TEST_CASE("a shell runs as a machine that was made for the fork does, and is given once") {
  RAMET_NEED_KVM(kvm);
  const Made made({.ready_shells = 2});
  made.pool->refill();
  REQUIRE(made.settles_at(2));
  ForkSpec spec;
  spec.shells = made.pool;
  for (int i = 0; i < 3; ++i) {  // the third finds none
    const auto machine = fork_machine(made.engine.get(), *made.from, {}, spec);
    REQUIRE(machine.ok());
    REQUIRE((*machine)->resume().ok());
    CHECK(wait_for([&] { return (*machine)->metrics().first_exit_ns != 0; }));
  }
  CHECK(made.pool->ready() == 0);
}

TEST_CASE("none are made while the host is short of memory, and those that stand ready go") {
  RAMET_NEED_KVM(kvm);
  auto is_short = std::make_shared<std::atomic<bool>>(false);
  const Made made({.ready_shells = 2, .pressure_source = [is_short] {
                     PressureFigures figures;
                     figures.full = *is_short ? 10'000 : 0;
                     figures.some = figures.full;
                     return figures;
                   }});
  made.pool->refill();
  REQUIRE(made.settles_at(2));
  *is_short = true;
  made.engine->relieve();
  CHECK(made.settles_at(0));
  std::this_thread::sleep_for(std::chrono::nanoseconds(2 * PressureGate::kFreshNs));
  made.pool->refill();
  CHECK(made.settles_at(0));
  *is_short = false;
  std::this_thread::sleep_for(std::chrono::nanoseconds(2 * PressureGate::kFreshNs));
  made.pool->refill();
  CHECK(made.settles_at(2));
}

TEST_CASE("a pool that goes, with shells ready and one in the making, leaves nothing") {
  RAMET_NEED_KVM(kvm);
  const size_t threads = thread_count();
  const size_t descriptors = descriptor_count();
  for (int i = 0; i < 20; ++i) {
    const Made made({.idle_threads = 0, .ready_shells = 3});
    made.pool->refill();
    std::this_thread::sleep_for(std::chrono::microseconds(100 * i));
  }
  CHECK(settled(thread_count, threads) <= threads);
  CHECK(settled(descriptor_count, descriptors) <= descriptors);
}
