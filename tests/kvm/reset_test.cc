// Reset in place: what a used sandbox is after it, from which states, and that nothing stays of
// what it was.
#include <chrono>
#include <future>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "lib/instance/reasons.h"
#include "tests/guests/agent.h"
#include "tests/guests/builder.h"
#include "tests/guests/life.h"
#include "tests/guests/runner.h"
#include "tests/kvm/need_kvm.h"
#include "tests/support/place.h"
#include "tests/support/settle.h"
#include "vmm/base/clock.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

constexpr uint64_t kSecond = 1'000'000'000;

std::shared_ptr<Engine> make_engine(EngineConfig config = {}) {
  config.scratch_directory = temp_root();
  auto engine = Engine::create(std::move(config));
  INFO(engine.status().ToString());
  REQUIRE(engine.ok());
  return *std::move(engine);
}

// A sandbox whose guest takes so many commands, and no more until it is reset.
struct Made {
  explicit Made(int commands, ForkSpec how = {}, EngineConfig config = {})
      : engine(make_engine(std::move(config))), spec(std::move(how)) {
    auto made = make_obedient_template(engine, commands);
    INFO(made.status().ToString());
    REQUIRE(made.ok());
    from = *std::move(made);
    auto forked = fork_obedient(engine, *from, spec);
    INFO(forked.status().ToString());
    REQUIRE(forked.ok());
    box = *std::move(forked);
  }

  Status reset() const { return reset_within(obedience_ns(), spec.hostname); }
  Status reset_within(uint64_t ns, std::string_view hostname) const {
    ForkSpec again = spec;
    again.hostname = hostname;
    again.ready_deadline_ns = monotonic_ns() + ns;
    return reset_sandbox(box.get(), *from, again);
  }
  SandboxLife& life() const { return box->life(); }

  std::shared_ptr<Engine> engine;
  ForkSpec spec;
  std::shared_ptr<const TemplateData> from;
  std::unique_ptr<SandboxMachine> box;
};

}  // namespace

TEST_CASE("a sandbox that is reset takes as many commands again as a new fork, with another name") {
  RAMET_NEED_KVM(kvm);
  const Made made(1);
  for (int i = 0; i < 5; ++i) {
    const std::string name = made.box->hostname();
    REQUIRE(command(made.box.get()) == Status());
    const Status reset = made.reset();
    INFO(reset.ToString());
    REQUIRE(reset.ok());
    CHECK(made.box->hostname() != name);
    CHECK(made.life().state() == SandboxState::kRunning);
    CHECK(made.life().end_reason().ok());
  }
  CHECK(command(made.box.get()) == Status());
}

TEST_CASE(
    "the first command comes over the connection of the reseed, the next over one of its own") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine();
  const auto from = make_agent_template(engine, [](AgentScript& agent) {
    agent.wait_packet(vsock::Op::kRw);  // and takes no connection for it
    agent.say(wire::Exit{});
    agent.accept();
    agent.greet();
    agent.wait_packet(vsock::Op::kRw);
    agent.say(wire::Exit{});
  });
  REQUIRE(from.ok());
  const auto box = fork_obedient(engine, **from);
  REQUIRE(box.ok());
  for (int i = 0; i < 2; ++i) {
    REQUIRE(command(box->get()) == Status());
    REQUIRE(command(box->get()) == Status());
    const ForkSpec again = {.ready_deadline_ns = monotonic_ns() + obedience_ns()};
    REQUIRE(reset_sandbox(box->get(), **from, again).ok());
  }
}

TEST_CASE("what a sandbox used counts from its last reset on, and so do its clocks") {
  RAMET_NEED_KVM(kvm);
  const Made made(1);
  REQUIRE(command(made.box.get()).ok());
  const InstanceMetrics before = made.life().metrics();
  REQUIRE(before.disk_bytes_written != 0);
  REQUIRE(before.private_disk_bytes != 0);
  const uint64_t called = monotonic_ns();
  REQUIRE(made.reset().ok());
  const InstanceMetrics after = made.life().metrics();
  CHECK(after.disk_bytes_written == 0);
  CHECK(after.private_disk_bytes == 0);
  CHECK(after.vcpu_exits < before.vcpu_exits);
  const SandboxTimes times = made.life().times();
  CHECK(times.fork_called >= called);
  CHECK(times.shell_ready >= times.fork_called);
  CHECK(times.first_exit >= times.shell_ready);
  CHECK(times.first_agent_reply >= times.first_exit);
  CHECK(times.exec_done == 0);
}

TEST_CASE("what a sandbox holds of memory is its own and its template's, and goes with a reset") {
  RAMET_NEED_KVM(kvm);
  for (const Isolation isolation : {Isolation::kInProcess, Isolation::kHelper}) {
    const Made made(1, {.isolation = isolation});
    REQUIRE(command(made.box.get()).ok());
    const auto used = made.life().memory_use();
    REQUIRE(used);
    CHECK(used->private_bytes != 0);
    CHECK(used->private_bytes < kHostileMemoryBytes);
    CHECK(used->shared_bytes != 0);
    CHECK(used->page_table_bytes != 0);
    REQUIRE(made.reset().ok());
    const auto after = made.life().memory_use();
    REQUIRE(after);
    CHECK(after->private_bytes < used->private_bytes);
    made.box->kill();
    CHECK_FALSE(made.life().memory_use());
  }
}

TEST_CASE("a command that runs when its sandbox is reset ends as Cancelled, and says why") {
  RAMET_NEED_KVM(kvm);
  const Made made(0);  // takes none
  std::future<Status> running =
      std::async(std::launch::async, [&] { return command(made.box.get()); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  REQUIRE(made.reset().ok());
  const Status ended = running.get();
  INFO(ended.ToString());
  CHECK(absl::IsCancelled(ended));
  CHECK(reason_of(ended) == reason::kReset);
  CHECK(made.life().state() == SandboxState::kRunning);
}

TEST_CASE("a paused sandbox can be reset, and runs then") {
  RAMET_NEED_KVM(kvm);
  const Made made(1);
  REQUIRE(command(made.box.get()).ok());
  REQUIRE(made.life().pause().ok());
  REQUIRE(made.reset().ok());
  CHECK(made.life().state() == SandboxState::kRunning);
  CHECK(command(made.box.get()).ok());
}

TEST_CASE("a sandbox that was poisoned can be reset, any number of times") {
  RAMET_NEED_KVM(kvm);
  const Made made(1);
  for (int i = 0; i < 3; ++i) {
    made.life().poison(made.life().run().number,
                       with_reason(absl::DataLossError("a test"), reason::kGuestMisbehaved));
    REQUIRE(made.life().state() == SandboxState::kPoisoned);
    REQUIRE_FALSE(command(made.box.get()).ok());
    const Status reset = made.reset();
    INFO(reset.ToString());
    REQUIRE(reset.ok());
    CHECK(made.life().state() == SandboxState::kRunning);
    CHECK(command(made.box.get()).ok());
  }
}

TEST_CASE("a guest that does not answer in time after a reset leaves its sandbox Poisoned") {
  RAMET_NEED_KVM(kvm);
  const Made made(1);
  const Status late = made.reset_within(kSecond / 5, kHungHostname);
  INFO(late.ToString());
  CHECK(reason_of(late) == reason::kGuestHung);
  CHECK(made.life().state() == SandboxState::kPoisoned);
  CHECK_FALSE(command(made.box.get()).ok());
  CHECK(made.reset().ok());
  CHECK(command(made.box.get()).ok());
}

TEST_CASE("a sandbox that is gone cannot be reset") {
  RAMET_NEED_KVM(kvm);
  const Made made(1);
  made.box->kill();
  CHECK(reason_of(made.reset()) == reason::kKilled);
  CHECK(made.life().wait_gone(monotonic_ns() + 30 * kSecond).ok());
}

TEST_CASE("of two threads that reset a sandbox at once one may be told that it is too many") {
  RAMET_NEED_KVM(kvm);
  const Made made(1);
  for (int i = 0; i < 20; ++i) {
    auto other = std::async(std::launch::async, [&] { return made.reset(); });
    const Status here = made.reset();
    const Status there = other.get();
    INFO(here.ToString() << "; " << there.ToString());
    CHECK((here.ok() || there.ok()));
    for (const Status& each : {here, there}) {
      CHECK((each.ok() || absl::IsFailedPrecondition(each)));
    }
    CHECK(made.life().state() == SandboxState::kRunning);
  }
  CHECK(command(made.box.get()).ok());
}

TEST_CASE("what was said of the machine before does not poison the one that a reset made") {
  RAMET_NEED_KVM(kvm);
  const Made made(1);
  const uint64_t run = made.life().run().number;
  REQUIRE(made.reset().ok());
  made.life().poison(run, absl::DataLossError("late"));
  CHECK(made.life().state() == SandboxState::kRunning);
  CHECK(reason_of(made.life().end_reason(run)) == reason::kReset);
}

TEST_CASE("limits of a sandbox begin anew with each reset") {
  RAMET_NEED_KVM(kvm);
  const uint64_t wall = (in_nested_machine() ? 10 : 2) * kSecond;
  const Made made(1, {.limits = {.wall_ns = wall}});
  const uint64_t start = monotonic_ns();
  while (monotonic_ns() - start < wall + wall / 2) {
    std::this_thread::sleep_for(std::chrono::nanoseconds(wall / 4));
    const Status reset = made.reset();
    INFO(reset.ToString());
    REQUIRE(reset.ok());
  }
  CHECK(wait_for([&] { return made.life().state() == SandboxState::kGone; }));
  CHECK(limit_of(made.life().end_reason()));
}

TEST_CASE("a sandbox in a helper process is reset by another process") {
  RAMET_NEED_KVM(kvm);
  const Made made(1, {.isolation = Isolation::kHelper});
  for (int i = 0; i < 3; ++i) {
    REQUIRE(command(made.box.get()).ok());
    const Status reset = made.reset();
    INFO(reset.ToString());
    REQUIRE(reset.ok());
  }
  CHECK(command(made.box.get()).ok());
}

TEST_CASE("a sandbox that is killed at any moment of a reset is gone, and nothing is left of it") {
  RAMET_NEED_KVM(kvm);
  const uint32_t seed = std::random_device()();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto engine = make_engine({.idle_threads = 0, .ready_shells = 0});
  auto from = make_obedient_template(engine, 1);
  REQUIRE(from.ok());
  {
    // An engine keeps what it opens at its first fork.
    auto first = fork_obedient(engine, **from);
    REQUIRE(first.ok());
    (*first)->kill();
    REQUIRE((*first)->life().wait_gone(monotonic_ns() + 30 * kSecond).ok());
  }
  const Belongings before = belongings();
  const int times = long_run() ? 500 : 50;
  int killed = 0;
  for (int i = 0; i < times; ++i) {
    auto box = fork_obedient(engine, **from);
    REQUIRE(box.ok());
    const auto wait = std::chrono::microseconds(random() % 1'500);
    std::thread killer([&] {
      std::this_thread::sleep_for(wait);
      (*box)->kill();
    });
    const Status reset =
        reset_sandbox(box->get(), **from, {.ready_deadline_ns = monotonic_ns() + obedience_ns()});
    killer.join();
    INFO("killed after " << wait.count() << " us: " << reset.ToString());
    CHECK((reset.ok() || reason_of(reset) == reason::kKilled));
    killed += reset.ok() ? 0 : 1;
    CHECK((*box)->life().state() == SandboxState::kGone);
    CHECK((*box)->life().wait_gone(monotonic_ns() + 30 * kSecond).ok());
  }
  CHECK(killed != 0);
  CHECK(left_behind(before) == std::vector<std::string>());
}

TEST_CASE("a sandbox whose template knows its working set is the template's again after a reset") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine({.ready_shells = 0});
  auto plain = make_obedient_template(engine, 1);
  REQUIRE(plain.ok());
  // What a fork of it writes, and pages that none does.
  TemplateData trained = **plain;
  {
    auto box = fork_obedient(engine, **plain);
    REQUIRE(box.ok());
    REQUIRE(command(box->get()).ok());
    REQUIRE((*box)->life().pause().ok());
    auto touched = (*box)->life().touched();
    REQUIRE(touched.ok());
    REQUIRE(!touched->written.empty());
    trained.working_set = {.written = united(touched->written, std::vector<PageRange>{{64, 32}})};
  }
  auto box = fork_obedient(engine, trained);
  REQUIRE(box.ok());
  for (int i = 0; i < 20; ++i) {
    INFO("reset " << i);
    REQUIRE(command(box->get()).ok());
    const Status reset =
        reset_sandbox(box->get(), trained, {.ready_deadline_ns = monotonic_ns() + obedience_ns()});
    INFO(reset.ToString());
    REQUIRE(reset.ok());
    const auto use = (*box)->life().memory_use();
    REQUIRE(use.has_value());
    CHECK(use->private_bytes >= 32 * kPageSize);
  }
  REQUIRE(command(box->get()).ok());
  // The pages that no fork writes were made ready for nothing.
  const auto use = (*box)->life().prefetch_use(*trained.memory, made_ready(trained, ForkSpec{}));
  REQUIRE(use.ok());
  CHECK(use->ready_pages == pages_in(trained.working_set.written));
  CHECK(use->hits > 0);
  CHECK(use->hits <= use->ready_pages - 32);
}

TEST_CASE("resets in a row leave no memory, no descriptor and no thread behind") {
  RAMET_NEED_KVM(kvm);
  const Made made(1);
  REQUIRE(command(made.box.get()).ok());
  REQUIRE(made.reset().ok());
  const Belongings before = belongings();
  const int64_t resident = resident_bytes();
  const int times = long_run() ? 10'000 : 300;
  for (int i = 0; i < times; ++i) {
    REQUIRE(command(made.box.get()).ok());
    REQUIRE(made.reset().ok());
  }
  CHECK(left_behind(before) == std::vector<std::string>());
  if (memory_is_ours()) {
    CHECK(resident_bytes() - resident < 1 << 20);
  }
}
