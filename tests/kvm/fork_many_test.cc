// Forks that are asked for many at once: an answer for each, in order, and all or none where that
// is asked for.
#include "lib/fork/fork_many.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "lib/instance/reasons.h"
#include "tests/guests/life.h"
#include "tests/guests/runner.h"
#include "tests/kvm/need_kvm.h"
#include "tests/support/place.h"
#include "vmm/base/clock.h"
#include "vmm/base/fault_plan.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

constexpr uint64_t kSecond = 1'000'000'000;

struct Made {
  explicit Made(EngineConfig config = {}) {
    config.scratch_directory = temp_root();
    auto made = Engine::create(std::move(config));
    INFO(made.status().ToString());
    REQUIRE(made.ok());
    engine = *std::move(made);
    auto data = make_obedient_template(engine, 1);
    INFO(data.status().ToString());
    REQUIRE(data.ok());
    from = *std::move(data);
  }

  auto fork(const ManyForks& many, ForkSpec spec = {}) const {
    // All of them together.
    spec.ready_deadline_ns = monotonic_ns() + 10 * obedience_ns();
    return fork_sandboxes(engine, *from, spec, many);
  }

  std::shared_ptr<Engine> engine;
  std::shared_ptr<const TemplateData> from;
};

template <typename Forks>
size_t good(const Forks& forks) {
  return static_cast<size_t>(
      std::ranges::count_if(forks, [](const auto& each) { return each.ok(); }));
}

}  // namespace

TEST_CASE("many forks at once are as many sandboxes, each with a name of its own, that answer") {
  RAMET_NEED_KVM(kvm);
  const Made made;
  const auto forks = made.fork({.count = 20});
  REQUIRE(forks.size() == 20);
  std::set<std::string> names;
  for (const auto& fork : forks) {
    INFO(fork.status().ToString());
    REQUIRE(fork.ok());
    names.insert((*fork)->hostname());
    CHECK(command(fork->get()).ok());
  }
  CHECK(names.size() == 20);
}

TEST_CASE("none are none, and a name that is given is the beginning of each name") {
  RAMET_NEED_KVM(kvm);
  const Made made;
  CHECK(made.fork({.count = 0}).empty());
  const auto forks = made.fork({.count = 3}, {.hostname = "box"});
  REQUIRE(good(forks) == 3);
  CHECK((*forks[0])->hostname() == "box-1");
  CHECK((*forks[2])->hostname() == "box-3");
}

TEST_CASE("of forks of which one fails the others live, or none where all or none were asked for") {
  RAMET_NEED_KVM(kvm);
  const Made made({.idle_threads = 0, .ready_shells = 0});
  REQUIRE(good(made.fork({.count = 1})) == 1);
  REQUIRE(made.engine->drain(monotonic_ns() + obedience_ns()).ok());
  const Belongings before = belongings();
  for (const bool all : {false, true}) {
    sys::FaultPlan plan(sys::Call::kIoctl, 1, EINVAL);  // KVM_CREATE_VM
    plan.arm();
    const auto forks = made.fork({.count = 4, .all_or_nothing = all});
    plan.disarm();
    CHECK(good(forks) == (all ? 0 : 3));
    CHECK(std::ranges::count_if(forks, [](const auto& each) {
            return absl::IsCancelled(each.status());
          }) == (all ? 3 : 0));
  }
  REQUIRE(made.engine->drain(monotonic_ns() + obedience_ns()).ok());
  CHECK(left_behind(before) == std::vector<std::string>());
}

TEST_CASE(
    "forks of several callers at once all get their answer, on as many threads as are given") {
  RAMET_NEED_KVM(kvm);
  const Made made({.fork_threads = 1});
  auto other = std::async(std::launch::async, [&] { return made.fork({.count = 8}); });
  CHECK(good(made.fork({.count = 8})) == 8);
  CHECK(good(other.get()) == 8);
  CHECK(Engine::create({.fork_threads = 65}).status().code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("a fork whose time is up at any moment is a Status or a sandbox, and nothing is left") {
  RAMET_NEED_KVM(kvm);
  const uint32_t seed = std::random_device()();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  // In this process; and in a worker, which outlives its forks.
  for (const uint32_t workers : {0U, 1U}) {
    INFO(workers << " workers");
    const Made made(
        {.idle_threads = 0, .ready_shells = 0, .worker_processes = workers, .machines_here = 0});
    // What is opened once is opened here.
    CHECK(made.fork({.count = 1})[0].ok());
    REQUIRE(made.engine->drain(monotonic_ns() + 30 * kSecond).ok());
    const Belongings before = belongings();
    const int times = long_run() ? 500 : 50;
    int late = 0;
    for (int i = 0; i < times; ++i) {
      const uint64_t allowed = 1'000 * (random() % 3'000);
      auto box =
          fork_sandbox(made.engine, *made.from, {.ready_deadline_ns = monotonic_ns() + allowed});
      INFO("after " << allowed / 1'000 << " us: " << box.status().ToString());
      CHECK((box.ok() || absl::IsDeadlineExceeded(box.status()) ||
             reason_of(box.status()) == reason::kHostBusy));
      late += box.ok() ? 0 : 1;
    }
    CHECK(late != 0);
    REQUIRE(made.engine->drain(monotonic_ns() + 30 * kSecond).ok());
    CHECK(left_behind(before) == std::vector<std::string>());
  }
}
