// Limits against guests that do one thing without end: exits, interrupts, counting, writing memory.
// Each ends with its figures or is slowed to its rate, is killed at once however it waits, and one
// that keeps within its limits is left alone.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include <catch2/catch.hpp>

#include "lib/core/boot.h"
#include "lib/core/engine.h"
#include "lib/core/local_machine.h"
#include "lib/core/sandbox_life.h"
#include "lib/instance/reasons.h"
#include "tests/kvm/need_kvm.h"
#include "tests/support/guest_code.h"
#include "tests/support/place.h"
#include "tests/support/settle.h"
#include "vmm/base/clock.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSecond = 1'000 * kMs;
constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kPatience = 30 * kSecond;

// A guest that asks its host without end, and gets an interrupt each time it asks.
StatusOr<Box> interrupted_box(const std::shared_ptr<const Kvm>& kvm) {
  constexpr uint32_t kPin = 5;
  auto box = make_box(kvm, Program::kIrq, {.registers = [](VcpuRegisters& registers) {
                        registers.general.rbp = kPin;
                        registers.general.r12 = 0;
                      }});
  if (box.ok()) {
    box->ports->count_only();
    box->ports->set_answer([line = &box->machine->irq(kPin)](const Access&) {
      line->trigger();
      return uint64_t{0};
    });
  }
  return box;
}

StatusOr<Box> exiting_box(const std::shared_ptr<const Kvm>& kvm, uint32_t vcpus = 1) {
  auto box = make_box(kvm, Program::kHello, {.vcpus = vcpus});
  if (box.ok()) {
    box->ports->count_only();
  }
  return box;
}

struct Ran {
  double exits = 0;  // a second
  double interrupts = 0;
  MachineUse use;
};

// Lets a machine run for `ns`, the first tenth of a second's worth left out.
Ran run_for(Machine* machine, uint64_t ns) {
  REQUIRE(machine->resume().ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const MachineUse before = machine->use();
  const uint64_t start = monotonic_ns();
  std::this_thread::sleep_for(std::chrono::nanoseconds(ns));
  Ran ran = {.use = machine->use()};
  const double seconds = static_cast<double>(monotonic_ns() - start) / 1e9;
  ran.exits = static_cast<double>(ran.use.exits - before.exits) / seconds;
  ran.interrupts = static_cast<double>(ran.use.interrupts - before.interrupts) / seconds;
  return ran;
}

// A guest in an instance of its own, over copy-on-write memory.
struct Guest {
  std::shared_ptr<Engine> engine;
  std::shared_ptr<SandboxLife> life;
  UniqueFd file;

  Guest() = default;
  Guest(Guest&&) = default;
  Guest& operator=(Guest&&) = delete;
  Guest(const Guest&) = delete;
  Guest& operator=(const Guest&) = delete;
  ~Guest() {
    if (life != nullptr) {
      life->detach();
    }
  }

  // Waits until it is Gone, and says by which limit.
  LimitHit wait_limit() const {
    const uint64_t deadline = monotonic_ns() + kPatience;
    while (life->state() != SandboxState::kGone && monotonic_ns() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    const Status end = life->end_reason();
    INFO(end);
    REQUIRE(life->state() == SandboxState::kGone);
    CHECK(end.code() == absl::StatusCode::kResourceExhausted);
    const auto hit = limit_of(end);
    REQUIRE(hit.has_value());
    const bool memory = hit->which == LimitKind::kPrivateMemory;
    CHECK(reason_of(end) == (memory ? reason::kOutOfMemory : reason::kLimitReached));
    CHECK(hit->used > hit->allowed);
    CHECK(life->wait_gone(monotonic_ns() + kPatience).ok());
    return *hit;
  }
};

struct GuestOptions {
  uint64_t memory_bytes = kGuestMemoryBytes;
  uint32_t vcpus = 1;
  uint64_t dirty_to = 0;  // Program::kDirty: where it stops
};

Guest start_guest(Program program, const InstanceLimits& limits, const GuestOptions& options = {}) {
  Guest guest;
  auto engine = Engine::create({.confinement_required = true});
  REQUIRE(engine.ok());
  guest.engine = *std::move(engine);
  auto file = create_memfd("ramet-test", options.memory_bytes);
  REQUIRE(file.ok());
  guest.file = *std::move(file);
  auto memory =
      GuestMemory::create(guest.file.get(), small_regions(options.memory_bytes), MapMode::kPrivate);
  REQUIRE(memory.ok());
  REQUIRE(load_program(**memory, program).ok());
  REQUIRE((*memory)->write_object({kGuestData}, options.dirty_to).ok());
  auto instance = Instance::create(guest.engine->instance_host(), *std::move(memory), options.vcpus,
                                   {.limits = limits});
  INFO(instance.status());
  REQUIRE(instance.ok());
  for (uint32_t vcpu = 0; vcpu < options.vcpus; ++vcpu) {
    REQUIRE(enter_program((*instance)->machine(), vcpu).ok());
  }
  guest.life = SandboxLife::create(guest.engine.get(),
                                   std::make_unique<LocalMachine>(*std::move(instance)), {});
  REQUIRE(guest.life->start().ok());
  return guest;
}

// How long kill() takes until nothing is left.
uint64_t kill_ns(const Guest& guest) {
  const uint64_t start = monotonic_ns();
  guest.life->finish(with_reason(absl::CancelledError("killed"), reason::kKilled));
  REQUIRE(guest.life->wait_gone(monotonic_ns() + kPatience).ok());
  return monotonic_ns() - start;
}

// Of exits or interrupts: far below what the slowest place does, where an exit takes 0.4 ms.
uint64_t modest_rate() { return in_nested_machine() ? 300 : 1'000; }

}  // namespace

TEST_CASE("a storm of exits is slowed to its rate, and without a rate it is far above") {
  RAMET_NEED_KVM(kvm);
  const uint64_t rate = modest_rate();
  const auto wanted = static_cast<double>(rate);
  auto box = exiting_box(kvm);
  REQUIRE(box.ok());
  box->machine->set_rates({.exits = {.per_second = rate}});
  const Ran ran = run_for(box->machine.get(), kSecond);
  CHECK(ran.exits > wanted * 0.8);
  CHECK(ran.exits < wanted * 1.2);
  CHECK(ran.use.waits > 0);
  CHECK(ran.use.waited_ns > kSecond / 2);
  CHECK(ran.use.cpu_ns < kSecond / 2);
  auto free = exiting_box(kvm);
  REQUIRE(free.ok());
  const Ran unlimited = run_for(free->machine.get(), kSecond / 2);
  CHECK(unlimited.exits > wanted * 2);
  CHECK(unlimited.use.waits == 0);
}

TEST_CASE("the vCPUs of a machine share its rate of exits") {
  RAMET_NEED_KVM(kvm);
  const uint64_t rate = modest_rate();
  const auto wanted = static_cast<double>(rate);
  auto box = make_box(kvm, Program::kHello, {.vcpus = 2});
  REQUIRE(box.ok());
  box->ports->count_only();
  REQUIRE(box->machine
              ->with_vcpu(1,
                          [](Vcpu& vcpu) {
                            RAMET_ASSIGN_OR_RETURN(VcpuState state, vcpu.save());
                            state.mp_state.mp_state = KVM_MP_STATE_RUNNABLE;
                            return vcpu.restore(state);
                          })
              .ok());
  REQUIRE(enter_program(*box->machine, 1).ok());
  box->machine->set_rates({.exits = {.per_second = rate}});
  const Ran ran = run_for(box->machine.get(), kSecond);
  CHECK(ran.exits > wanted * 0.8);
  CHECK(ran.exits < wanted * 1.2);
}

TEST_CASE("a storm of exits above a rate that ends ends within a second, with the figures") {
  RAMET_NEED_KVM(kvm);
  auto box = exiting_box(kvm);
  REQUIRE(box.ok());
  box->machine->set_rates({.exits = {.per_second = 500, .ends = true}});
  REQUIRE(box->machine->resume().ok());
  const auto end = box->machine->wait_end(monotonic_ns() + kPatience);
  REQUIRE(end.has_value());
  CHECK(end->reason == EndReason::kLimit);
  CHECK(end->limit == LimitHit{LimitKind::kExitRate, 500, 501});
  CHECK(end->detail == "exits in one second: 500 allowed, 501 used");
  box->machine->stop();
  // Kicks end a run too, and are none of the guest's.
  CHECK(box->machine->exits() >= 501);
  CHECK(box->machine->exits() <= 505);
}

TEST_CASE("a storm of interrupts is slowed to its rate, or ends with the figures") {
  RAMET_NEED_KVM(kvm);
  const uint64_t rate = modest_rate();
  const auto wanted = static_cast<double>(rate);
  {
    auto box = interrupted_box(kvm);
    REQUIRE(box.ok());
    box->machine->set_rates({.interrupts = {.per_second = rate}});
    const Ran ran = run_for(box->machine.get(), kSecond);
    CHECK(ran.interrupts > wanted * 0.8);
    CHECK(ran.interrupts < wanted * 1.2);
    CHECK(ran.use.waits > 0);
  }
  auto box = interrupted_box(kvm);
  REQUIRE(box.ok());
  box->machine->set_rates({.interrupts = {.per_second = 100, .ends = true}});
  REQUIRE(box->machine->resume().ok());
  const auto end = box->machine->wait_end(monotonic_ns() + kPatience);
  REQUIRE(end.has_value());
  CHECK(end->limit == LimitHit{LimitKind::kIrqRate, 100, 101});
}

TEST_CASE("a vCPU that waits for its rate pauses, resumes and stops at once") {
  RAMET_NEED_KVM(kvm);
  auto box = exiting_box(kvm);
  REQUIRE(box.ok());
  box->machine->set_rates({.exits = {.per_second = 1}});  // it waits for whole seconds
  for (int i = 0; i < 20; ++i) {
    REQUIRE(box->machine->resume().ok());
    REQUIRE(box->ports->wait_writes(0, 1));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    const uint64_t start = monotonic_ns();
    REQUIRE(box->machine->pause().ok());
    CHECK(monotonic_ns() - start < 500 * kMs);
  }
  // What is owed stays owed: pausing does not buy exits.
  CHECK(box->ports->writes(0) <= 4);
  REQUIRE(box->machine->resume().ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const uint64_t start = monotonic_ns();
  box->machine->stop();
  CHECK(monotonic_ns() - start < 500 * kMs);
}

TEST_CASE("a sandbox ends at its wall clock, spinning or paused, with the figures") {
  RAMET_NEED_KVM(kvm);
  for (const bool paused : {false, true}) {
    const uint64_t start = monotonic_ns();
    const Guest guest = start_guest(Program::kCount, {.wall_ns = 300 * kMs});
    if (paused) {
      REQUIRE(guest.life->pause().ok());
    }
    const LimitHit hit = guest.wait_limit();
    CHECK(hit.which == LimitKind::kWallClock);
    CHECK(hit.allowed == 300 * kMs);
    CHECK(hit.used < 300 * kMs + 500 * kMs);
    CHECK(monotonic_ns() - start >= 300 * kMs);
  }
}

TEST_CASE(
    "a machine that is over its wall clock before anybody listens is a sandbox that is Gone") {
  RAMET_NEED_KVM(kvm);
  for (int i = 0; i < 20; ++i) {
    auto engine = Engine::create({.confinement_required = true});
    REQUIRE(engine.ok());
    auto file = create_memfd("ramet-test", kGuestMemoryBytes);
    REQUIRE(file.ok());
    auto memory = GuestMemory::create(file->get(), small_regions(), MapMode::kPrivate);
    REQUIRE(memory.ok());
    auto instance = Instance::create((*engine)->instance_host(), *std::move(memory), 1,
                                     {.limits = {.wall_ns = 1}});
    REQUIRE(instance.ok());
    REQUIRE((*instance)->machine().wait_end(monotonic_ns() + kPatience).has_value());
    CHECK(limit_of((*instance)->resume()).has_value());
    const auto life = SandboxLife::create(engine->get(),
                                          std::make_unique<LocalMachine>(*std::move(instance)), {});
    CHECK(life->state() == SandboxState::kGone);
    CHECK(limit_of(life->end_reason()).has_value());
    CHECK_FALSE(life->start().ok());
    life->detach();
    CHECK(life->wait_gone(monotonic_ns() + kPatience).ok());
  }
}

TEST_CASE("a sandbox that spins ends at its processor time, and one that is paused does not") {
  RAMET_NEED_KVM(kvm);
  const Guest paused = start_guest(Program::kCount, {.cpu_ns = 200 * kMs});
  REQUIRE(paused.life->pause().ok());
  const Guest spins = start_guest(Program::kCount, {.cpu_ns = 200 * kMs});
  const LimitHit hit = spins.wait_limit();
  CHECK(hit.which == LimitKind::kCpuTime);
  CHECK(hit.allowed == 200 * kMs);
  CHECK(hit.used < 400 * kMs);
  CHECK(spins.life->metrics().cpu_ns >= hit.allowed);
  std::printf("processor time: %.1f ms allowed, %.1f ms used\n",
              static_cast<double>(hit.allowed) / 1e6, static_cast<double>(hit.used) / 1e6);
  CHECK(paused.life->state() == SandboxState::kPaused);
  CHECK(paused.life->metrics().cpu_ns < 200 * kMs);
}

TEST_CASE("a sandbox that spins is slowed to its share of a processor, and is killed at once") {
  RAMET_NEED_KVM(kvm);
  constexpr uint64_t kShare = 200 * kMs;  // of each second
  const Guest guest = start_guest(Program::kCount, {.rates = {.cpu = {.per_second = kShare}}});
  std::this_thread::sleep_for(std::chrono::milliseconds(500));
  const InstanceMetrics before = guest.life->metrics();
  std::this_thread::sleep_for(std::chrono::seconds(2));
  const InstanceMetrics after = guest.life->metrics();
  const uint64_t used = after.cpu_ns - before.cpu_ns;
  std::printf("share of a processor: %.0f ms allowed in 2 s, %.1f ms used\n",
              static_cast<double>(2 * kShare) / 1e6, static_cast<double>(used) / 1e6);
  CHECK(used > 2 * kShare / 2);
  CHECK(used < 2 * kShare * 3 / 2);
  CHECK(after.throttled > before.throttled);
  CHECK(after.throttled_ns - before.throttled_ns > kSecond);
  CHECK(kill_ns(guest) < 500 * kMs);
}

TEST_CASE("a sandbox that spins above a share that ends ends with the figures") {
  RAMET_NEED_KVM(kvm);
  const Guest guest =
      start_guest(Program::kCount, {.rates = {.cpu = {.per_second = 300 * kMs, .ends = true}}});
  const LimitHit hit = guest.wait_limit();
  CHECK(hit.which == LimitKind::kCpuRate);
  CHECK(hit.allowed == 300 * kMs);
  CHECK(hit.used < 600 * kMs);
}

TEST_CASE("a sandbox that writes its memory ends at the limit of it, soon after it is passed") {
  RAMET_NEED_KVM(kvm);
  constexpr uint64_t kAllowed = 64 * kMiB;
  const Guest guest = start_guest(Program::kDirty, {.private_bytes = kAllowed},
                                  {.memory_bytes = 512 * kMiB, .dirty_to = 500 * kMiB});
  const LimitHit hit = guest.wait_limit();
  CHECK(hit.which == LimitKind::kPrivateMemory);
  CHECK(hit.allowed == kAllowed);
  CHECK(hit.used < kAllowed + 256 * kMiB);
  std::printf("private memory: %.1f MiB allowed, %.1f MiB used\n",
              static_cast<double>(kAllowed) / kMiB, static_cast<double>(hit.used) / kMiB);
}

TEST_CASE("sandboxes within their limits go on, and what they cost the host is counted") {
  RAMET_NEED_KVM(kvm);
  const InstanceLimits limits = {.wall_ns = 3'600 * kSecond,
                                 .cpu_ns = 3'600 * kSecond,
                                 .private_bytes = 64 * kMiB,
                                 .rates = {.exits = {.per_second = 1'000'000},
                                           .interrupts = {.per_second = 1'000'000},
                                           .cpu = {.per_second = 8 * kSecond}}};
  const Guest dirty =
      start_guest(Program::kDirty, limits, {.memory_bytes = 128 * kMiB, .dirty_to = 32 * kMiB});
  const Guest exits = start_guest(Program::kHello, limits);
  std::this_thread::sleep_for(std::chrono::milliseconds(1'500));
  for (const Guest* guest : {&dirty, &exits}) {
    INFO(guest->life->end_reason());
    CHECK(guest->life->state() == SandboxState::kRunning);
    const InstanceMetrics metrics = guest->life->metrics();
    CHECK(metrics.throttled == 0);
    CHECK(metrics.cpu_ns > 100 * kMs);
  }
  CHECK(exits.life->metrics().vcpu_exits > 1'000);
  for (const Guest* guest : {&dirty, &exits}) {
    CHECK(guest->engine->jail().refused() == 0);  // the watch has the calls that it needs
  }
}

TEST_CASE("a sandbox that waits for its rate is killed at once, and leaves nothing") {
  RAMET_NEED_KVM(kvm);
  const size_t threads = thread_count();
  const size_t descriptors = descriptor_count();
  for (int i = 0; i < 10; ++i) {
    const Guest guest = start_guest(Program::kHello, {.wall_ns = 3'600 * kSecond,
                                                      .private_bytes = 64 * kMiB,
                                                      .rates = {.exits = {.per_second = 1}}});
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    CHECK(kill_ns(guest) < 500 * kMs);
  }
  CHECK(settled(thread_count, threads) <= threads);
  CHECK(settled(descriptor_count, descriptors) <= descriptors);
}

TEST_CASE("a machine that never had a limit costs no watching thread") {
  RAMET_NEED_KVM(kvm);
  const auto count_watchers = [] {
    size_t count = 0;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
      std::ifstream file(task.path() / "comm");
      std::string name;
      count += std::getline(file, name) && name == "ramet-limits" ? 1 : 0;
    }
    return count;
  };
  const Guest guest = start_guest(Program::kCount, {.rates = {.exits = {.per_second = 1'000}}});
  CHECK(count_watchers() == 0);
  const Guest limited = start_guest(Program::kCount, {.wall_ns = 3'600 * kSecond});
  CHECK(count_watchers() == 1);
}
