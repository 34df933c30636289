// Branches: a running sandbox becomes a template and goes on, both sides differ from then on, at
// any depth, whatever happens meanwhile; and nothing is left of it. With RAMET_IN_HELPERS of
// sandboxes in helper processes, with RAMET_IN_WORKERS in a worker process.
#include "lib/fork/branch.h"

#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "lib/instance/reasons.h"
#include "lib/store/template_store.h"
#include "tests/guests/agent.h"
#include "tests/guests/builder.h"
#include "tests/guests/life.h"
#include "tests/guests/runner.h"
#include "tests/kvm/need_kvm.h"
#include "tests/support/place.h"
#include "tests/support/settle.h"
#include "tests/support/temp_dir.h"
#include "vmm/base/clock.h"
#include "vmm/base/fault_plan.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

using Data = std::shared_ptr<const TemplateData>;
using Box = std::unique_ptr<SandboxMachine>;

constexpr uint64_t kSecond = 1'000'000'000;

#if defined(RAMET_IN_HELPERS)
constexpr Isolation kIsolation = Isolation::kHelper;
#else
constexpr Isolation kIsolation = Isolation::kInProcess;
#endif

std::shared_ptr<Engine> make_engine(EngineConfig config = {}) {
  config.scratch_directory = temp_root();
#if defined(RAMET_IN_WORKERS)
  config.worker_processes = 1;
  config.machines_here = 0;
#elif defined(RAMET_IN_HELPERS)
  config.ready_helpers = 0;  // none that is being started when descriptors are counted
#endif
  auto engine = Engine::create(std::move(config));
  INFO(engine.status().ToString());
  REQUIRE(engine.ok());
  return *std::move(engine);
}

Data make_template(const std::shared_ptr<Engine>& engine, uint32_t vcpus = 1) {
  auto made = make_serving_template(engine, vcpus);
  INFO(made.status().ToString());
  REQUIRE(made.ok());
  return *std::move(made);
}

Box fork_of(const std::shared_ptr<Engine>& engine, const Data& from,
            ForkSpec spec = {.isolation = kIsolation}) {
  auto box = fork_obedient(engine, *from, std::move(spec));
  INFO(box.status().ToString());
  REQUIRE(box.ok());
  return *std::move(box);
}

StatusOr<Data> try_branch(const Box& box, const Data& from) {
  return branch_sandbox(box.get(), *from, monotonic_ns() + obedience_ns());
}

Data branch_of(const Box& box, const Data& from) {
  auto branch = try_branch(box, from);
  INFO(branch.status().ToString());
  REQUIRE(branch.ok());
  return *std::move(branch);
}

// The number of the command.
int next(const Box& box) {
  const auto number = served(box.get());
  INFO(number.status().ToString());
  REQUIRE(number.ok());
  return *number;
}

// What the image holds of the 64 pages that commands write to.
std::vector<uint64_t> pages_of(const Data& data) {
  std::vector<uint64_t> values;
  for (uint64_t page = 0; page < 64; ++page) {
    uint64_t value = 0;
    REQUIRE(
        data->memory
            ->read(kServingPages + page * kPageSize, std::as_writable_bytes(std::span(&value, 1)))
            .ok());
    values.push_back(value);
  }
  return values;
}

std::vector<uint64_t> first_pages(uint64_t commands) {
  std::vector<uint64_t> values(64);
  for (uint64_t n = 1; n <= commands; ++n) {
    values[n % 64] = n;
  }
  return values;
}

void end(const Box& box) {
  box->kill();
  REQUIRE(box->life().wait_gone(monotonic_ns() + 30 * kSecond).ok());
}

}  // namespace

TEST_CASE("a branch goes on from where its sandbox was, and the two know nothing of each other") {
  RAMET_NEED_KVM(kvm);
  const uint32_t vcpus = GENERATE(1u, 2u);
  const auto engine = make_engine();
  const Data base = make_template(engine, vcpus);
  const Box parent = fork_of(engine, base);
  REQUIRE(next(parent) == 1);
  REQUIRE(next(parent) == 2);
  const Data branch = branch_of(parent, base);
  CHECK(pages_of(branch) == first_pages(2));
  CHECK(pages_of(base) == first_pages(0));
  const Box child = fork_of(engine, branch);
  const Box other =
      fork_of(engine, branch, {.isolation = kIsolation, .use_shell = ShellUse::kNone});
  CHECK(next(parent) == 3);
  CHECK(next(child) == 3);
  CHECK(next(child) == 4);
  CHECK(next(child) == 5);
  CHECK(next(parent) == 4);
  CHECK(next(other) == 3);
  CHECK(child->hostname() != parent->hostname());
  const Data again = branch_of(child, branch);
  CHECK(pages_of(again) == first_pages(5));
  CHECK(pages_of(branch) == first_pages(2));
  CHECK(next(fork_of(engine, base)) == 1);
}

TEST_CASE("a branch's disk is its sandbox's, written to by each alone afterwards") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine();
  const Data base = make_template(engine);
  const Box parent = fork_of(engine, base);
  const auto block = [](const Data& data) {
    std::array<std::byte, block::kBlockBytes> bytes;
    REQUIRE(data->disks.scratch->read_block(0, bytes).ok());
    return std::to_integer<int>(bytes[0]);
  };
  REQUIRE(next(parent) == 1);
  const Data one = branch_of(parent, base);
  REQUIRE(next(parent) == 2);
  const Data two = branch_of(parent, base);
  const Box child = fork_of(engine, one);
  for (int n = 2; n <= 7; ++n) {
    REQUIRE(next(child) == n);
  }
  const Data seven = branch_of(child, one);
  CHECK(block(one) == 1);
  CHECK(block(two) == 2);
  CHECK(block(seven) == 7);
}

TEST_CASE(
    "a fork of a fork of a fork, to depth 8, is right at each, and maps no more at the last") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine({.ready_shells = 0});
  Data from = make_template(engine);
  std::vector<Box> boxes;
  for (int depth = 0; depth < 8; ++depth) {
    boxes.push_back(fork_of(engine, from));
    for (int n = 1; n <= 3; ++n) {
      REQUIRE(next(boxes.back()) == 3 * depth + n);
    }
    from = branch_of(boxes.back(), from);
    INFO("depth " << depth << ": " << from->memory->parts().size() << " parts");
    CHECK(from->memory->parts().size() <= MemoryView::kMaxParts);
    REQUIRE(pages_of(from) == first_pages(static_cast<uint64_t>(3 * depth + 3)));
    REQUIRE(boxes.back()->life().pause().ok());  // these guests never sleep
  }
  const Box last = fork_of(engine, from);
  CHECK(next(last) == 25);
  // Those above it have gone on alone.
  for (int depth = 0; depth < 8; ++depth) {
    const Box& box = boxes[static_cast<size_t>(depth)];
    REQUIRE(box->life().resume().ok());
    CHECK(next(box) == 3 * depth + 4);
    end(box);
  }
}

TEST_CASE("a command in flight ends in its sandbox as if nothing had been, and commands follow") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine();
  const Data base = make_template(engine, 2);
  const Box parent = fork_of(engine, base);
  std::atomic<bool> over{false};
  auto commands = std::async(std::launch::async, [&] {
    int last = 0;
    while (!over) {
      const auto number = served(parent.get());
      if (!number.ok() || *number != (last + 1) % 128) {
        return false;
      }
      last = *number;
    }
    return true;
  });
  Data branch;
  for (int i = 0; i < 20; ++i) {
    branch = branch_of(parent, base);
  }
  over = true;
  CHECK(commands.get());
  const Box child = fork_of(engine, branch);
  CHECK(served(child.get()).ok());
}

TEST_CASE("a sandbox can be paused as soon as its branch is there, every time") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine();
  const Data base = make_template(engine);
  const Box parent = fork_of(engine, base);
  for (int i = 0; i < 50; ++i) {
    branch_of(parent, base);
    const Status paused = parent->life().pause();
    INFO(i << ": " << paused.ToString());
    REQUIRE(paused.ok());
    REQUIRE(parent->life().resume().ok());
  }
}

TEST_CASE("a branch that was saved and loaded is the same") {
  RAMET_NEED_KVM(kvm);
  const TempDir folder;
  const auto engine = make_engine();
  const Data base = make_template(engine);
  const Box parent = fork_of(engine, base);
  for (int n = 1; n <= 5; ++n) {
    REQUIRE(next(parent) == n);
  }
  const Data branch = branch_of(parent, base);
  REQUIRE(save_template(*branch, folder.path() + "/t") == Status());
  const auto loaded = load_template(
      {.directory = folder.path() + "/t", .rootfs = {}, .scratch_directory = temp_root()});
  REQUIRE(loaded.ok());
  CHECK(pages_of(*loaded) == first_pages(5));
  CHECK(next(fork_of(engine, *loaded)) == 6);
}

TEST_CASE("a branch is forked into a helper process, branched there, and forked again") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine();
  const Data base = make_template(engine);
  const Box parent = fork_of(engine, base);
  for (int n = 1; n <= 5; ++n) {
    REQUIRE(next(parent) == n);
  }
  const Data branch = branch_of(parent, base);
  const Box child = fork_of(engine, branch, {.isolation = Isolation::kHelper});
  CHECK(next(child) == 6);
  const Data deeper = branch_of(child, branch);
  CHECK(next(child) == 7);
  CHECK(next(parent) == 6);
  CHECK(pages_of(deeper) == first_pages(6));
  const Box grandchild = fork_of(engine, deeper);
  CHECK(next(grandchild) == 7);
}

TEST_CASE("a fork of a branch is reset to the branch, and its sandbox to what it was forked from") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine();
  const Data base = make_template(engine);
  const Box parent = fork_of(engine, base);
  REQUIRE(next(parent) == 1);
  REQUIRE(next(parent) == 2);
  const Data branch = branch_of(parent, base);
  const Box child = fork_of(engine, branch);
  for (int i = 0; i < 3; ++i) {
    REQUIRE(next(child) == 3);
    REQUIRE(next(child) == 4);
    REQUIRE(reset_sandbox(child.get(), *branch,
                          {.ready_deadline_ns = monotonic_ns() + obedience_ns(),
                           .isolation = kIsolation}) == Status());
  }
  REQUIRE(reset_sandbox(parent.get(), *base,
                        {.ready_deadline_ns = monotonic_ns() + obedience_ns(),
                         .isolation = kIsolation}) == Status());
  CHECK(next(parent) == 1);
}

TEST_CASE("a sandbox that is paused, poisoned or gone cannot be branched, and stays so") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine();
  const Data base = make_template(engine);
  const Box parent = fork_of(engine, base);
  REQUIRE(parent->life().pause().ok());
  CHECK(absl::IsFailedPrecondition(try_branch(parent, base).status()));
  REQUIRE(parent->life().resume().ok());
  CHECK(try_branch(parent, base).ok());
  parent->life().poison(parent->life().run().number,
                        with_reason(absl::DataLossError("a test"), reason::kGuestMisbehaved));
  CHECK(reason_of(try_branch(parent, base).status()) == reason::kGuestMisbehaved);
  parent->kill();
  CHECK_FALSE(try_branch(parent, base).ok());
}

TEST_CASE("an agent that does not answer leaves its sandbox Poisoned at the deadline") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine();
  auto base = make_obedient_template(engine, 0);
  REQUIRE(base.ok());
  const Box parent = fork_of(engine, *base);
  const auto branch = branch_sandbox(parent.get(), **base, monotonic_ns() + kSecond / 5);
  CHECK(reason_of(branch.status()) == reason::kGuestHung);
  CHECK(parent->life().state() == SandboxState::kPoisoned);
}

TEST_CASE("whatever an agent answers to a snapshot, it is a Status that says what it did") {
  RAMET_NEED_KVM(kvm);
  struct Row {
    const char* name;
    std::function<void(AgentScript&)> answer;
    std::string_view reason;
    SandboxState state;
  };
  const auto held_well = [](AgentScript& agent) {
    agent.say(wire::FreezeReply{});
    agent.wait_packet(vsock::Op::kRw);
  };
  const std::array<Row, 6> rows = {{
      {"breaks off", [](AgentScript& agent) { agent.send(vsock::Op::kRst); },
       reason::kGuestMisbehaved, SandboxState::kPoisoned},
      {"says what is no answer", [](AgentScript& agent) { agent.say(wire::Pong{}); },
       reason::kGuestMisbehaved, SandboxState::kPoisoned},
      {"names a process",
       [](AgentScript& agent) {
         agent.say(wire::FreezeReply{1, {{7, "stray"}}});
       },
       reason::kProcessesAlive, SandboxState::kRunning},
      {"refuses",
       [](AgentScript& agent) {
         agent.say(wire::Error{wire::ErrorCode::kInternal, "no"});
       },
       "", SandboxState::kRunning},
      {"breaks off when it is to thaw",
       [&](AgentScript& agent) {
         held_well(agent);
         agent.send(vsock::Op::kRst);
       },
       reason::kGuestMisbehaved, SandboxState::kPoisoned},
      {"refuses to thaw",
       [&](AgentScript& agent) {
         held_well(agent);
         agent.say(wire::Error{wire::ErrorCode::kInternal, "no"});
       },
       reason::kGuestMisbehaved, SandboxState::kPoisoned},
  }};
  const auto engine = make_engine();
  for (const Row& row : rows) {
    const auto base = make_agent_template(engine, [&](AgentScript& agent) {
      agent.take_request();
      row.answer(agent);
    });
    REQUIRE(base.ok());
    const Box box = fork_of(engine, *base);
    const auto branch = try_branch(box, *base);
    INFO(row.name << ": " << branch.status().ToString());
    CHECK_FALSE(branch.ok());
    CHECK(reason_of(branch.status()) == row.reason);
    CHECK(box->life().state() == row.state);
  }
}

TEST_CASE("of two threads that branch a sandbox at once one may be told that it is too many") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine();
  const Data base = make_template(engine);
  const Box parent = fork_of(engine, base);
  for (int i = 0; i < 20; ++i) {
    auto other = std::async(std::launch::async, [&] { return try_branch(parent, base).status(); });
    const Status here = try_branch(parent, base).status();
    const Status there = other.get();
    INFO(here.ToString() << "; " << there.ToString());
    CHECK((here.ok() || there.ok()));
    for (const Status& each : {here, there}) {
      CHECK((each.ok() || absl::IsFailedPrecondition(each)));
    }
    CHECK(parent->life().state() == SandboxState::kRunning);
  }
  CHECK(next(parent) == 1);
}

TEST_CASE("a branch and a reset of the same sandbox each are done or say why not") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine();
  const Data base = make_template(engine);
  const Box parent = fork_of(engine, base);
  for (int i = 0; i < 20; ++i) {
    auto other = std::async(std::launch::async, [&] {
      return reset_sandbox(
          parent.get(), *base,
          {.ready_deadline_ns = monotonic_ns() + obedience_ns(), .isolation = kIsolation});
    });
    const auto branch = try_branch(parent, base);
    const Status reset = other.get();
    INFO(branch.status().ToString() << "; " << reset.ToString());
    CHECK(reset.ok());
    CHECK((branch.ok() || absl::IsFailedPrecondition(branch.status()) ||
           reason_of(branch.status()) == reason::kReset));
    CHECK(parent->life().state() == SandboxState::kRunning);
    if (branch.ok()) {
      CHECK(served(fork_of(engine, *branch).get()).ok());
    }
  }
  CHECK(next(parent) == 1);
}

TEST_CASE("a sandbox that is killed at any moment of a branch is gone, and nothing is left of it") {
  RAMET_NEED_KVM(kvm);
  const uint32_t seed = std::random_device()();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  const auto engine = make_engine({.idle_threads = 0, .ready_shells = 0});
  const Data base = make_template(engine);
  {
    const Box first = fork_of(engine, base);
    REQUIRE(try_branch(first, base).ok());
    end(first);
  }
  const Belongings before = belongings();
  const int times = long_run() ? 500 : 100;
  int killed = 0;
  for (int i = 0; i < times; ++i) {
    const Box box = fork_of(engine, base);
    const auto wait = std::chrono::microseconds(random() % 1'500);
    std::thread killer([&] {
      std::this_thread::sleep_for(wait);
      box->kill();
    });
    const auto branch = try_branch(box, base);
    killer.join();
    INFO("killed after " << wait.count() << " us: " << branch.status().ToString());
    CHECK((branch.ok() || reason_of(branch.status()) == reason::kKilled));
    killed += branch.ok() ? 0 : 1;
    CHECK(box->life().state() == SandboxState::kGone);
    CHECK(box->life().wait_gone(monotonic_ns() + 30 * kSecond).ok());
    if (branch.ok() && i % 10 == 0) {
      const Box child = fork_of(engine, *branch);
      CHECK(served(child.get()).ok());
      end(child);
    }
  }
  CHECK(killed != 0);
  CHECK(engine->jail().refused() == 0);
  CHECK(left_behind(before) == std::vector<std::string>());
}

TEST_CASE("branches in a row leave no memory, no descriptor and no thread behind") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine({.ready_shells = 0});
  const Data base = make_template(engine);
  const auto once = [&](const Box& parent) {
    const Data branch = branch_of(parent, base);
    const Box child = fork_of(engine, branch);
    REQUIRE(served(child.get()).ok());
    end(child);
  };
  const int times = long_run() ? 1'000 : 100;
  Box parent = fork_of(engine, base);
  once(parent);
  end(parent);
  const Belongings before = belongings();
  const int64_t resident = resident_bytes();
  parent = fork_of(engine, base);
  for (int i = 0; i < times; ++i) {
    REQUIRE(served(parent.get()).ok());
    once(parent);
  }
  end(parent);
  parent.reset();
  CHECK(left_behind(before) == std::vector<std::string>());
  if (memory_is_ours()) {
    CHECK(resident_bytes() - resident < 1 << 20);
  }
}

TEST_CASE("whichever system call fails in a branch, it is a Status, and its sandbox goes on") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine({.idle_threads = 0, .ready_shells = 0});
  const Data base = make_template(engine);
  Box box = fork_of(engine, base);
  REQUIRE(try_branch(box, base).ok());
  end(box);
  const Belongings before = belongings();
  box = fork_of(engine, base);
  constexpr std::array<int, 4> kErrors = {EIO, ENOMEM, EMFILE, ENOSPC};
  uint64_t n = 1;
  uint64_t failed = 0;
  for (bool fired = true; fired; ++n) {
    REQUIRE(n < 5'000);
    const int last = next(box);
    Status status;
    {
      sys::FaultPlan plan(sys::Call::kAny, n, kErrors[n % kErrors.size()]);
      plan.arm();
      status = try_branch(box, base).status();
      plan.disarm();
      fired = plan.fired();
    }
    INFO("call " << n << ": " << status.ToString());
    CHECK((fired || status.ok()));
    CHECK((status.ok() || !status.message().empty()));
    failed += status.ok() ? 0 : 1;
    if (box->life().state() == SandboxState::kRunning) {
      // Nothing of its disk is lost to the next branch, nor of what follows.
      const Data whole = branch_of(box, base);
      std::array<std::byte, block::kBlockBytes> first;
      REQUIRE(whole->disks.scratch->read_block(0, first).ok());
      CHECK(std::to_integer<int>(first[0]) == last);
      CHECK(served(box.get()).ok());
    } else {
      // A call of a vCPU's thread failed, or of those to another process, which no machine
      // survives.
      end(box);
      box = fork_of(engine, base);
    }
  }
  CHECK(failed > 20);
  end(box);
  box.reset();  // its disk has a layer for each branch
  CHECK(engine->jail().refused() == 0);
  CHECK(left_behind(before) == std::vector<std::string>());
}
