// A machine in a helper process, with hand-made guests: it runs, pauses, ends and dies as one in
// this process does, and leaves nothing.

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <future>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "lib/core/sandbox_life.h"
#include "lib/core/sandbox_machine.h"
#include "lib/fork/identity.h"
#include "lib/instance/reasons.h"
#include "tests/kvm/helper_fixture.h"
#include "tests/kvm/need_kvm.h"
#include "tests/support/escape.h"
#include "tests/support/helper/drill.h"
#include "tests/support/settle.h"
#include "vmm/base/clock.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

constexpr uint64_t kSecond = 1'000'000'000;

}  // namespace

TEST_CASE("a guest runs in a helper process, pauses and goes on") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine();
  const TemplateData from = make_template(engine.get(), Program::kHello);
  const auto machine = fork_into_helper(engine.get(), from);
  CHECK(machine->metrics().vcpu_exits == 0);
  REQUIRE(machine->resume().ok());
  REQUIRE(wait_for([&] { return machine->metrics().vcpu_exits > 100; }));
  CHECK(machine->metrics().first_exit_ns != 0);
  REQUIRE(machine->pause().ok());
  const uint64_t paused = machine->metrics().vcpu_exits;
  CHECK(machine->metrics().vcpu_exits == paused);
  REQUIRE(machine->resume().ok());
  CHECK(wait_for([&] { return machine->metrics().vcpu_exits > paused + 100; }));
  machine->stop();
}

TEST_CASE("the end of a guest in a helper process is told with its reason") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine();
  const TemplateData from = make_template(engine.get(), Program::kTripleFault);
  const auto machine = fork_into_helper(engine.get(), from);
  std::promise<Status> ended;
  machine->on_end([&](const Status& why) { ended.set_value(why); });
  REQUIRE(machine->resume().ok());
  auto result = ended.get_future();
  REQUIRE(result.wait_for(std::chrono::seconds(30)) == std::future_status::ready);
  const Status why = result.get();
  CHECK(reason_of(why) == reason::kGuestDied);
  CHECK(std::string(why.message()).find("triple fault") != std::string::npos);
  CHECK(machine->metrics().vcpu_exits > 0);
}

TEST_CASE(
    "a guest in a helper process is watched for every limit, and ends at one with the figures") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine();
  const TemplateData from = make_template(engine.get(), Program::kHello);
  const InstanceLimits limits = {.wall_ns = kSecond / 2,
                                 .cpu_ns = 60 * kSecond,
                                 .private_bytes = uint64_t{64} << 20,
                                 .connections = 4,
                                 .rates = {.exits = {200, false}}};
  const auto machine =
      fork_machine(engine.get(), from, {}, {.isolation = Isolation::kHelper, .limits = limits});
  INFO(machine.status().ToString());
  REQUIRE(machine.ok());
  std::promise<Status> ended;
  (*machine)->on_end([&](const Status& why) { ended.set_value(why); });
  REQUIRE((*machine)->resume().ok());
  auto result = ended.get_future();
  REQUIRE(result.wait_for(std::chrono::seconds(30)) == std::future_status::ready);
  const Status why = result.get();
  CHECK(reason_of(why) == reason::kLimitReached);
  REQUIRE(limit_of(why).has_value());
  CHECK(limit_of(why)->which == LimitKind::kWallClock);
  CHECK(limit_of(why)->allowed == kSecond / 2);
  CHECK((*machine)->metrics().throttled > 0);
}

TEST_CASE("who is told that a machine in a helper has ended finds the reason there") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine();
  const TemplateData from = make_template(engine.get(), Program::kHello);
  for (int i = 0; i < 20; ++i) {
    auto machine = fork_machine(engine.get(), from, {},
                                {.isolation = Isolation::kHelper, .limits = {.wall_ns = 1}});
    REQUIRE(machine.ok());
    const auto life = SandboxLife::create(engine.get(), *std::move(machine), {});
    const Status started = life->start();
    if (!started.ok()) {  // else it ran for a moment
      CHECK(reason_of(life->end_reason()) == reason::kLimitReached);
    }
    CHECK(wait_for([&] { return life->state() == SandboxState::kGone; }));
    CHECK(reason_of(life->end_reason()) == reason::kLimitReached);
    life->detach();
  }
}

TEST_CASE("a fork whose machine has gone before it starts fails with the reason of its end") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine();
  const TemplateData from = make_template(engine.get(), Program::kHello);
  const auto reseed = make_reseed("gone");
  REQUIRE(reseed.ok());
  for (const Isolation isolation : {Isolation::kInProcess, Isolation::kHelper}) {
    auto machine = fork_machine(engine.get(), from, reseed->generation,
                                {.isolation = isolation, .limits = {.wall_ns = 1}});
    REQUIRE(machine.ok());
    SandboxMachine box(engine, *std::move(machine), "gone", {});
    REQUIRE(wait_for([&] { return box.life().state() == SandboxState::kGone; }));
    REQUIRE(engine->drain(monotonic_ns() + 30 * kSecond).ok());
    const Status started = box.start(*reseed, monotonic_ns() + 30 * kSecond);
    INFO(started.ToString());
    CHECK(reason_of(started) == reason::kLimitReached);
  }
}

TEST_CASE("this host grants helper processes their whole enclosure") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine();
  const auto enclosure = engine->enclosure(monotonic_ns() + 30 * kSecond);
  INFO(enclosure.status().ToString());
  REQUIRE(enclosure.ok());
  CHECK(enclosure->missing() == "");
}

TEST_CASE("a helper process has at most 4096 descriptors, and no core file") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine({.ready_helpers = 0});
  const TemplateData from = make_template(engine.get(), Program::kHello);
  const auto machine = fork_into_helper(engine.get(), from);
  const std::vector<int> helpers = helpers_of(::getpid());
  REQUIRE(helpers.size() == 1);
  rlimit files = {};
  REQUIRE(::prlimit(helpers[0], RLIMIT_NOFILE, nullptr, &files) == 0);
  CHECK(files.rlim_max == 4096);
  rlimit core = {};
  REQUIRE(::prlimit(helpers[0], RLIMIT_CORE, nullptr, &core) == 0);
  CHECK(core.rlim_max == 0);
}

TEST_CASE("code in any thread of a helper process that makes a forbidden call is killed for it") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine({.helper_program = RAMET_HELPER_DRILL});
  const TemplateData from = make_template(engine.get(), Program::kHello);
  const auto attempts = escape_attempts();
  for (uint32_t i = 0; i < attempts.size(); ++i) {
    for (const auto thread : {DrillThread::kFirst, DrillThread::kVcpu, DrillThread::kWorker}) {
      // It maps guest memory; and it has no file but those that it was given.
      if (attempts[i].what == "mmap a file" && thread == DrillThread::kFirst) {
        continue;
      }
      INFO(attempts[i].what << " on thread " << static_cast<int>(thread));
      const auto machine = fork_into_helper(engine.get(), from);
      std::promise<Status> ended;
      machine->on_end([&](const Status& why) { ended.set_value(why); });
      CHECK_FALSE(machine->ports()->connect(drill_port(i, thread)).ok());
      auto result = ended.get_future();
      REQUIRE(result.wait_for(std::chrono::seconds(30)) == std::future_status::ready);
      CHECK(reason_of(result.get()) == reason::kCallRefused);
    }
  }
}

TEST_CASE("without its filter a helper process still reaches no file, process or network") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine({.helper_program = RAMET_HELPER_OPEN});
  const TemplateData from = make_template(engine.get(), Program::kHello);
  const UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  std::memcpy(name.sun_path + 1, kAbstractSocket, sizeof kAbstractSocket - 1);
  REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&name),
                 offsetof(sockaddr_un, sun_path) + sizeof kAbstractSocket) == 0);
  REQUIRE(::listen(listener.get(), 8) == 0);
  const auto machine = fork_into_helper(engine.get(), from);
  const auto attempts = outside_attempts();
  for (uint32_t i = 0; i < attempts.size(); ++i) {
    // Here, where nothing encloses, the sockets are there to be reached.
    if (attempts[i].what == "connect to an abstract socket of the host") {
      CHECK(attempts[i].call() == 0);
    }
    const auto tried = machine->ports()->connect(drill_port(i, DrillThread::kFirst));
    INFO(tried.status().ToString());
    REQUIRE(absl::IsAborted(tried.status()));
    CHECK(std::string(tried.status().message()).find(attempts[i].what + ": -1, errno") == 0);
  }
}

TEST_CASE("a helper process that is killed from outside ends its machine, with a reason") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine({.ready_helpers = 0});
  const TemplateData from = make_template(engine.get(), Program::kHello);
  const auto machine = fork_into_helper(engine.get(), from);
  std::promise<Status> ended;
  machine->on_end([&](const Status& why) { ended.set_value(why); });
  REQUIRE(machine->resume().ok());
  const std::vector<int> helpers = helpers_of(::getpid());
  REQUIRE(helpers.size() == 1);
  REQUIRE(::kill(helpers[0], SIGKILL) == 0);
  auto result = ended.get_future();
  REQUIRE(result.wait_for(std::chrono::seconds(30)) == std::future_status::ready);
  const Status why = result.get();
  CHECK(reason_of(why) == reason::kHelperDied);
  CHECK(std::string(why.message()) == "the helper process died on signal 9");
  CHECK(machine->resume().code() == absl::StatusCode::kUnavailable);
}

// Nothing but the kernel stops it: no watch looks at what it does.
TEST_CASE("a helper process that burns processor time beyond its limit is killed, and says so") {
  RAMET_NEED_KVM(kvm);
  const auto engine = make_engine({.helper_program = RAMET_HELPER_DRILL});
  const TemplateData from = make_template(engine.get(), Program::kHello);
  const auto machine = fork_into_helper(engine.get(), from, {.cpu_ns = kSecond / 10});
  std::promise<Status> ended;
  machine->on_end([&](const Status& why) { ended.set_value(why); });
  CHECK_FALSE(machine->ports()->connect(kBurnPort).ok());
  auto result = ended.get_future();
  REQUIRE(result.wait_for(std::chrono::seconds(60)) == std::future_status::ready);
  const Status why = result.get();
  INFO(why.ToString());
  const auto hit = limit_of(why);
  REQUIRE(hit);
  CHECK(hit->which == LimitKind::kCpuTime);
  CHECK(hit->allowed == kSecond / 10);
  CHECK(hit->used > 3 * kSecond);
}

TEST_CASE("helper processes die with the process that made them") {
  RAMET_NEED_KVM(kvm);
  std::array<int, 2> ready = {-1, -1};
  REQUIRE(::pipe(ready.data()) == 0);
  // The embedder, which is killed while its helper runs a guest.
  const int embedder = ::fork();
  if (embedder == 0) {
    const auto engine = make_engine({.ready_helpers = 1});
    const TemplateData from = make_template(engine.get(), Program::kHello);
    const auto machine = fork_into_helper(engine.get(), from);
    const bool runs = machine->resume().ok();
    if (runs && ::write(ready[1], "x", 1) == 1) {
      ::pause();
    }
    ::_exit(1);
  }
  char byte = 0;
  REQUIRE(::read(ready[0], &byte, 1) == 1);
  const std::vector<int> helpers = helpers_of(embedder);
  CHECK(!helpers.empty());
  REQUIRE(::kill(embedder, SIGKILL) == 0);
  REQUIRE(::waitpid(embedder, nullptr, 0) == embedder);
  for (const int helper : helpers) {
    CHECK(wait_for([&] { return ::kill(helper, 0) != 0; }));
  }
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_CASE("stopped machines leave no process, thread, descriptor or mapping") {
  RAMET_NEED_KVM(kvm);
  const size_t threads = thread_count();
  const size_t descriptors = descriptor_count();
  {
    const auto engine = make_engine();
    const TemplateData from = make_template(engine.get(), Program::kHello);
    for (int i = 0; i < 20; ++i) {
      const auto machine = fork_into_helper(engine.get(), from);
      REQUIRE(machine->resume().ok());
      machine->stop();
      CHECK(machine->resume().code() == absl::StatusCode::kUnavailable);
    }
  }
  CHECK(settled(thread_count, threads) <= threads);
  CHECK(settled(descriptor_count, descriptors) <= descriptors);
}
