// Machines in worker processes, with hand-made guests: where they go, that they know nothing of one
// another, and what becomes of them when their process dies.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "lib/core/sandbox_machine.h"
#include "lib/helper/learned_set.h"
#include "lib/instance/reasons.h"
#include "tests/guests/life.h"
#include "tests/kvm/helper_fixture.h"
#include "tests/kvm/need_kvm.h"
#include "tests/support/escape.h"
#include "tests/support/helper/drill.h"
#include "tests/support/place.h"
#include "tests/support/settle.h"
#include "vmm/base/clock.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

constexpr uint64_t kSecond = 1'000'000'000;

using Machines = std::vector<std::unique_ptr<ForkedMachine>>;

// An engine all of whose machines go to workers.
std::shared_ptr<Engine> engine_of_workers(uint32_t processes, std::string program = {}) {
  return testing::make_engine({.ready_shells = 0,
                               .ready_helpers = 0,
                               .helper_program = std::move(program),
                               .worker_processes = processes,
                               .machines_here = 0});
}

std::unique_ptr<ForkedMachine> fork_running(Engine* engine, const TemplateData& from) {
  auto machine = fork_machine(engine, from, {}, {});
  INFO(machine.status().ToString());
  REQUIRE(machine.ok());
  const Status resumed = (*machine)->resume();
  INFO(resumed.ToString());
  REQUIRE(resumed.ok());
  return *std::move(machine);
}

Machines fork_several(Engine* engine, const TemplateData& from, int count) {
  Machines machines;
  for (int i = 0; i < count; ++i) {
    machines.push_back(fork_running(engine, from));
  }
  return machines;
}

bool goes_on(ForkedMachine& machine) {
  const uint64_t before = machine.metrics().vcpu_exits;
  return wait_for([&] { return machine.metrics().vcpu_exits > before; });
}

// What a process has open under this name.
size_t open_in(int pid, const std::string& name) {
  size_t count = 0;
  std::error_code gone;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd", gone)) {
    const auto target = std::filesystem::read_symlink(entry.path(), gone);
    count += target.string().find(name) != std::string::npos ? 1 : 0;
  }
  return count;
}

}  // namespace

TEST_CASE("a machine runs in a worker process, pauses and goes on") {
  RAMET_NEED_KVM(kvm);
  const auto engine = engine_of_workers(1);
  const TemplateData from = make_template(engine.get(), Program::kHello);
  const auto machine = fork_running(engine.get(), from);
  CHECK(machine->place() == nullptr);  // none that is in this process
  CHECK(goes_on(*machine));
  CHECK(machine->metrics().first_exit_ns != 0);
  REQUIRE(machine->pause().ok());
  const uint64_t paused = machine->metrics().vcpu_exits;
  CHECK(machine->metrics().vcpu_exits == paused);
  REQUIRE(machine->resume().ok());
  CHECK(goes_on(*machine));
  CHECK(machine->memory_use().ok());
  machine->stop();
}

TEST_CASE("a template's working set is made ready in another process too, unless it shall not be") {
  RAMET_NEED_KVM(kvm);
  const auto engine = engine_of_workers(1);
  TemplateData from = make_template(engine.get(), Program::kHello);
  from.working_set.written = {{512, 40}};
  for (const Isolation isolation : {Isolation::kInProcess, Isolation::kHelper}) {
    const auto private_pages = [&](Prefetch prefetch) {
      const auto machine =
          fork_machine(engine.get(), from, {}, {.isolation = isolation, .prefetch = prefetch});
      INFO(machine.status().ToString());
      REQUIRE(machine.ok());
      const auto use = (*machine)->memory_use();
      REQUIRE(use.ok());
      return use->private_bytes / kPageSize;
    };
    const uint64_t without = private_pages(Prefetch::kNo);
    CHECK(private_pages(Prefetch::kYes) == without + 40);
  }
}

TEST_CASE("as many machines as it shall have live in this process, the next in workers") {
  RAMET_NEED_KVM(kvm);
  const auto engine = testing::make_engine({.worker_processes = 1, .machines_here = 2});
  const TemplateData from = make_template(engine.get(), Program::kHello);
  Machines machines = fork_several(engine.get(), from, 3);
  CHECK(machines[0]->place() != nullptr);
  CHECK(machines[1]->place() != nullptr);
  CHECK(machines[2]->place() == nullptr);
  machines.erase(machines.begin());
  machines.push_back(fork_running(engine.get(), from));
  CHECK(machines.back()->place() != nullptr);  // in the place of the one that has gone
  machines.push_back(fork_running(engine.get(), from));
  CHECK(machines.back()->place() == nullptr);
}

TEST_CASE("a sandbox that is reset keeps its place in this process, one in a worker its worker") {
  RAMET_NEED_KVM(kvm);
  const auto engine = testing::make_engine({.scratch_directory = temp_root(),
                                            .ready_shells = 0,
                                            .worker_processes = 1,
                                            .machines_here = 1});
  const auto from = make_serving_template(engine);
  REQUIRE(from.ok());
  auto here = fork_obedient(engine, **from);
  INFO("here: " << here.status().ToString());
  REQUIRE(here.ok());
  auto there = fork_obedient(engine, **from);
  INFO("there: " << there.status().ToString());
  REQUIRE(there.ok());
  for (int i = 0; i < 3; ++i) {
    for (const auto& box : {&*here, &*there}) {
      CHECK(command(box->get()).ok());
      const Status reset =
          reset_sandbox(box->get(), **from, {.ready_deadline_ns = monotonic_ns() + obedience_ns()});
      INFO(reset.ToString());
      CHECK(reset.ok());
      const auto count = served(box->get());
      CHECK((count.ok() && *count == 1));
    }
    CHECK(open_in(::getpid(), "kvm-vm") == 1);
    // The machine that it was before is torn down off the caller's path.
    CHECK(wait_for([] { return open_in(helpers_of(::getpid()).at(0), "kvm-vm") == 1; }));
  }
}

namespace {

// An engine whose machines all go to one worker, and a template whose forks have an agent.
struct WorkerWithShells {
  explicit WorkerWithShells(EngineConfig config = {}) {
    config.scratch_directory = temp_root();
    config.worker_processes = 1;
    config.machines_here = 0;
    engine = testing::make_engine(std::move(config));
    auto made = make_serving_template(engine);
    REQUIRE(made.ok());
    from = *std::move(made);
    worker = helpers_of(::getpid()).at(0);
  }
  std::unique_ptr<SandboxMachine> fork(ForkSpec spec = {}) const {
    spec.learned = learned;
    auto box = fork_obedient(engine, *from, std::move(spec));
    INFO(box.status().ToString());
    REQUIRE(box.ok());
    return *std::move(box);
  }
  // Live ones and those made ahead.
  size_t machines() const { return open_in(worker, "kvm-vm"); }
  bool settles_at(size_t count) const {
    return wait_for([&] {
      if (machines() != count) {
        return false;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      return machines() == count;
    });
  }

  std::shared_ptr<Engine> engine;
  std::shared_ptr<const TemplateData> from;
  std::shared_ptr<helper::LearnedSet> learned = std::make_shared<helper::LearnedSet>();
  int worker = 0;
};

}  // namespace

TEST_CASE(
    "machines are made ahead in a worker once a fork there has answered, and forks use them") {
  RAMET_NEED_KVM(kvm);
  const WorkerWithShells made({.ready_shells = 2});
  CHECK(made.machines() == 0);
  const auto first = made.fork();
  CHECK(made.settles_at(1 + 2));
  // Each is a fork without a conversation, after which none are made.
  const auto second = fork_machine(made.engine.get(), *made.from, {}, {});
  REQUIRE(second.ok());
  CHECK(made.settles_at(1 + 2));  // one that stood ready
  const auto third =
      fork_machine(made.engine.get(), *made.from, {}, {.use_shell = ShellUse::kNone});
  REQUIRE(third.ok());
  CHECK(made.settles_at(1 + 2 + 1));  // a new one
  const auto fourth = made.fork();
  for (const auto& box : {&first, &fourth}) {
    const auto count = served(box->get());
    CHECK((count.ok() && *count == 1));
  }
  CHECK(made.settles_at(4 + 2));
}

TEST_CASE("a sandbox in a worker that is reset takes a machine made ahead, many times") {
  RAMET_NEED_KVM(kvm);
  const WorkerWithShells made({.ready_shells = 1});
  const auto box = made.fork();
  for (int i = 0; i < 10; ++i) {
    CHECK(command(box.get()).ok());
    const Status reset = reset_sandbox(box.get(), *made.from,
                                       {.ready_deadline_ns = monotonic_ns() + obedience_ns()});
    INFO(reset.ToString());
    REQUIRE(reset.ok());
    const auto count = served(box.get());
    CHECK((count.ok() && *count == 1));
  }
  CHECK(made.settles_at(1 + 1));
}

TEST_CASE("a worker keeps its share of the machines that may be made ahead, and no more") {
  RAMET_NEED_KVM(kvm);
  const WorkerWithShells made({.ready_shells = 2, .max_shells = 3});  // one there, two here
  const auto box = made.fork();
  CHECK(made.settles_at(1 + 1));
}

TEST_CASE("machines made ahead in a worker go when the engine relieves the host, and come back") {
  RAMET_NEED_KVM(kvm);
  const WorkerWithShells made({.ready_shells = 2});
  const auto box = made.fork();
  REQUIRE(made.settles_at(1 + 2));
  made.engine->relieve();
  CHECK(made.settles_at(1));
  const auto other = made.fork();
  CHECK(made.settles_at(2 + 2));
}

TEST_CASE("no machine is made ahead in a worker while the host is short of memory") {
  RAMET_NEED_KVM(kvm);
  auto is_short = std::make_shared<std::atomic<bool>>(false);
  const WorkerWithShells made({.ready_shells = 2, .pressure_source = [is_short] {
                                 PressureFigures figures;
                                 figures.full = *is_short ? 10'000 : 0;
                                 figures.some = figures.full;
                                 return figures;
                               }});
  const auto box = made.fork({.use_shell = ShellUse::kNone});
  CHECK(made.settles_at(1));
  const auto other = made.fork();
  REQUIRE(made.settles_at(2 + 2));
  *is_short = true;
  std::this_thread::sleep_for(std::chrono::nanoseconds(2 * PressureGate::kFreshNs));
  // Without admission, which would wait.
  const auto third = fork_machine(made.engine.get(), *made.from, {}, {.first_port = 1});
  REQUIRE(third.ok());
  CHECK_FALSE(made.engine->gate().enter(monotonic_ns() + kSecond / 10).ok());
  CHECK(made.machines() <= 3);  // and those that stood ready are gone, or going
}

TEST_CASE("a template stays known to a worker, with what is made ahead, until nobody has it") {
  RAMET_NEED_KVM(kvm);
  WorkerWithShells made({.ready_shells = 1});
  const auto known = [&] { return open_in(made.worker, "memfd:hostile-guest") != 0; };
  made.fork();  // gone at once
  CHECK(made.settles_at(1));
  CHECK(known());
  made.learned.reset();
  CHECK(made.settles_at(0));
  CHECK_FALSE(known());
}

TEST_CASE("of the templates without a machine a worker knows those that were forked last") {
  RAMET_NEED_KVM(kvm);
  const auto engine = engine_of_workers(1);
  const int worker = helpers_of(::getpid()).at(0);
  const auto known = [&] { return open_in(worker, "memfd:ramet-test"); };
  struct Held {
    TemplateData from;
    std::shared_ptr<helper::LearnedSet> learned = std::make_shared<helper::LearnedSet>();
  };
  const auto forks = [&](const Held& held) {
    return fork_machine(engine.get(), held.from, {}, {.learned = held.learned}).status().ok();
  };
  constexpr size_t kMost = helper::WorkerProcess::kMostKept;
  std::vector<Held> templates;
  for (size_t i = 0; i < kMost + 2; ++i) {
    templates.push_back({make_template(engine.get(), Program::kHello)});
    CHECK(forks(templates.back()));
    CHECK(wait_for([&] { return known() == std::min(i + 1, kMost); }));
  }
  CHECK(forks(templates.front()));  // taught anew
  CHECK(wait_for([&] { return known() == kMost; }));
  templates.clear();
  CHECK(wait_for([&] { return known() == 0; }));
}

TEST_CASE("what a killed worker knew of a template, the one in its place is taught") {
  RAMET_NEED_KVM(kvm);
  WorkerWithShells made({.ready_shells = 1});
  made.fork();
  REQUIRE(::kill(made.worker, SIGKILL) == 0);
  StatusOr<std::unique_ptr<SandboxMachine>> box = absl::UnknownError("none yet");
  REQUIRE(wait_for([&] {
    box = fork_obedient(made.engine, *made.from, {.learned = made.learned});
    return box.ok();
  }));
  CHECK(command(box->get()).ok());
  REQUIRE(wait_for([&] { return helpers_of(::getpid()).size() == 1; }));
  made.worker = helpers_of(::getpid()).at(0);
  CHECK(made.settles_at(1 + 1));
}

TEST_CASE("the end of a guest in a worker is told with its reason, and the others go on") {
  RAMET_NEED_KVM(kvm);
  const auto engine = engine_of_workers(1);
  const TemplateData lasting = make_template(engine.get(), Program::kHello);
  const TemplateData ending = make_template(engine.get(), Program::kTripleFault);
  const Machines others = fork_several(engine.get(), lasting, 3);
  auto machine = fork_machine(engine.get(), ending, {}, {});
  REQUIRE(machine.ok());
  std::promise<Status> ended;
  (*machine)->on_end([&](const Status& why) { ended.set_value(why); });
  REQUIRE((*machine)->resume().ok());
  auto result = ended.get_future();
  REQUIRE(result.wait_for(std::chrono::seconds(30)) == std::future_status::ready);
  const Status why = result.get();
  CHECK(reason_of(why) == reason::kGuestDied);
  CHECK(std::string(why.message()).find("triple fault") != std::string::npos);
  (*machine)->stop();
  for (const auto& other : others) {
    CHECK(goes_on(*other));
  }
}

TEST_CASE("limits of a machine in a worker end it alone") {
  RAMET_NEED_KVM(kvm);
  const auto engine = engine_of_workers(1);
  const TemplateData from = make_template(engine.get(), Program::kHello);
  const auto other = fork_running(engine.get(), from);
  auto machine = fork_machine(engine.get(), from, {}, {.limits = {.cpu_ns = kSecond / 20}});
  REQUIRE(machine.ok());
  std::promise<Status> ended;
  (*machine)->on_end([&](const Status& why) { ended.set_value(why); });
  REQUIRE((*machine)->resume().ok());
  auto result = ended.get_future();
  REQUIRE(result.wait_for(std::chrono::seconds(30)) == std::future_status::ready);
  const auto hit = limit_of(result.get());
  REQUIRE(hit.has_value());
  CHECK(hit->which == LimitKind::kCpuTime);
  CHECK(goes_on(*other));
}

TEST_CASE(
    "machines go to the worker with the fewest; one that is killed ends its own, with a "
    "reason, and is replaced") {
  RAMET_NEED_KVM(kvm);
  const auto engine = engine_of_workers(2);
  const TemplateData from = make_template(engine.get(), Program::kHello);
  Machines machines = fork_several(engine.get(), from, 6);
  std::atomic<int> died{0};
  for (const auto& machine : machines) {
    machine->on_end([&](const Status& why) {
      if (reason_of(why) == reason::kHelperDied) {
        ++died;
      }
    });
  }
  const std::vector<int> workers = helpers_of(::getpid());
  REQUIRE(workers.size() == 2);
  REQUIRE(::kill(workers[0], SIGKILL) == 0);
  REQUIRE(wait_for([&] { return died == 3; }));
  int live = 0;
  for (const auto& machine : machines) {
    live += machine->resume().ok() && goes_on(*machine) ? 1 : 0;
  }
  CHECK(live == 3);
  CHECK(died == 3);
  const Machines more = fork_several(engine.get(), from, 3);
  for (const auto& machine : more) {
    CHECK(goes_on(*machine));
  }
  CHECK(wait_for([&] { return helpers_of(::getpid()).size() == 2; }));
  machines.clear();
}

TEST_CASE("a fork that finds its worker killed fails with a reason, or finds another") {
  RAMET_NEED_KVM(kvm);
  const auto engine = engine_of_workers(1);
  const TemplateData from = make_template(engine.get(), Program::kHello);
  int made = 0;
  for (int i = 0; i < 20; ++i) {
    const std::vector<int> workers = helpers_of(::getpid());
    REQUIRE(workers.size() == 1);
    std::thread killer([&] {
      ::usleep(static_cast<useconds_t>(i * 50));
      ::kill(workers[0], SIGKILL);
    });
    const auto machine = fork_machine(engine.get(), from, {}, {});
    killer.join();
    INFO(machine.status().ToString());
    CHECK((machine.ok() || reason_of(machine.status()) == reason::kHelperDied));
    // Until it is known that it has died.
    CHECK(wait_for([&] { return fork_machine(engine.get(), from, {}, {}).ok(); }));
    made += machine.ok() ? 1 : 0;
    CHECK(wait_for([&] { return helpers_of(::getpid()).size() == 1; }));
  }
  CHECK(made < 20);
}

TEST_CASE("a worker knows a template for as long as a machine of it lives there") {
  RAMET_NEED_KVM(kvm);
  const auto engine = engine_of_workers(1);
  const TemplateData from = make_template(engine.get(), Program::kHello);
  const int worker = helpers_of(::getpid()).at(0);
  const auto known = [&] { return open_in(worker, "memfd:ramet-test"); };
  CHECK(known() == 0);
  for (int round = 0; round < 2; ++round) {
    Machines machines = fork_several(engine.get(), from, 3);
    CHECK(known() == 1);
    machines.erase(machines.begin(), machines.begin() + 2);
    CHECK(known() == 1);
    machines.clear();
    CHECK(wait_for([&] { return known() == 0; }));
  }
}

TEST_CASE(
    "machines in workers that were stopped leave no thread and no descriptor, here or there") {
  RAMET_NEED_KVM(kvm);
  const size_t threads = thread_count();
  const size_t descriptors = descriptor_count();
  std::atomic<int> told{0};  // a thread that lacks a row is told of
  {
    const auto engine = testing::make_engine({.log = [&](LogLevel, std::string_view) { ++told; },
                                              .ready_shells = 0,
                                              .worker_processes = 1,
                                              .machines_here = 0});
    const TemplateData from = make_template(engine.get(), Program::kHello);
    const int worker = helpers_of(::getpid()).at(0);
    fork_several(engine.get(), from, 40);  // as many threads as are kept
    const size_t before = open_in(worker, "");
    const size_t here = descriptor_count();
    for (int i = 0; i < 3; ++i) {
      fork_several(engine.get(), from, 20);
    }
    CHECK(wait_for([&] { return open_in(worker, "") <= before; }));
    CHECK(settled(descriptor_count, here) <= here);
    CHECK(engine->jail().refused() == 0);
  }
  CHECK(told == 0);
  CHECK(settled(thread_count, threads) <= threads);
  CHECK(settled(descriptor_count, descriptors) <= descriptors);
}

TEST_CASE(
    "threads of a worker are refused what none of them needs, and its first thread reaches "
    "nothing outside") {
  RAMET_NEED_KVM(kvm);
  for (const char* program : {RAMET_HELPER_DRILL, RAMET_HELPER_OPEN}) {
    const bool of_first = std::string(program) == RAMET_HELPER_OPEN;
    const auto engine = engine_of_workers(1, program);
    const TemplateData from = make_template(engine.get(), Program::kHello);
    const auto machine = fork_running(engine.get(), from);
    const auto attempts = of_first ? outside_attempts() : escape_attempts();
    uint64_t refused = 0;
    for (uint32_t i = 0; i < attempts.size(); ++i) {
      for (const auto thread : {DrillThread::kFirst, DrillThread::kVcpu, DrillThread::kWorker}) {
        if ((thread == DrillThread::kFirst) != of_first) {
          continue;
        }
        INFO(attempts[i].what << " on thread " << static_cast<int>(thread));
        const auto tried = machine->ports()->connect(drill_port(i, thread));
        INFO(tried.status().ToString());
        REQUIRE(absl::IsAborted(tried.status()));
        const std::string answer = attempts[i].what + ": -1, errno " + (of_first ? "" : "1");
        CHECK(std::string(tried.status().message()).find(answer) == 0);
        refused += of_first ? 0 : 1;
      }
    }
    CHECK(goes_on(*machine));
    CHECK(wait_for([&] { return engine->refused_calls() == refused; }));
  }
}

TEST_CASE("forks and kills by several threads at once, in two workers, leave nothing behind") {
  RAMET_NEED_KVM(kvm);
  const auto engine = engine_of_workers(2);
  const TemplateData from = make_template(engine.get(), Program::kHello);
  std::atomic<int> failed{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        auto machine = fork_machine(engine.get(), from, {}, {});
        if (!machine.ok() || !(*machine)->resume().ok()) {
          ++failed;
        } else if ((i + t) % 2 == 0) {
          (*machine)->abandon();
        }
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  CHECK(failed == 0);
  for (const int worker : helpers_of(::getpid())) {
    CHECK(wait_for([&] { return open_in(worker, "kvm-vcpu") == 0; }));
  }
}

TEST_CASE("where confinement is required a worker has its whole enclosure, and 4096 descriptors") {
  RAMET_NEED_KVM(kvm);
  const auto engine = testing::make_engine(
      {.confinement_required = true, .worker_processes = 1, .machines_here = 0});
  const TemplateData from = make_template(engine.get(), Program::kHello);
  CHECK(goes_on(*fork_running(engine.get(), from)));
  rlimit files = {};
  REQUIRE(::prlimit(helpers_of(::getpid()).at(0), RLIMIT_NOFILE, nullptr, &files) == 0);
  CHECK(files.rlim_max == 4096);
}
