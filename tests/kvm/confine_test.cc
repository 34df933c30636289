// Confinement of a whole machine: code that breaks out into one of its threads gets nowhere, and
// the sandbox is poisoned for it.
#include <cerrno>
#include <future>

#include <catch2/catch.hpp>

#include "lib/core/boot.h"
#include "lib/core/engine.h"
#include "lib/core/local_machine.h"
#include "lib/core/sandbox_life.h"
#include "lib/instance/instance.h"
#include "lib/instance/reasons.h"
#include "tests/kvm/need_kvm.h"
#include "tests/support/escape.h"
#include "tests/support/guest_code.h"
#include "tests/support/settle.h"
#include "vmm/base/clock.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

constexpr uint64_t kSecond = 1'000'000'000;

struct Tried {
  std::string what;
  long result = 0;
  int error = 0;
};

std::vector<Tried> try_all(const std::vector<EscapeAttempt>& attempts) {
  std::vector<Tried> tried;
  for (const EscapeAttempt& attempt : attempts) {
    errno = 0;
    const long result = attempt.call();
    tried.push_back({attempt.what, result, errno});
  }
  return tried;
}

void check_refused(const std::vector<Tried>& tried) {
  CHECK(tried.size() > 20);
  for (const Tried& one : tried) {
    INFO(one.what);
    CHECK(one.result == -1);
    CHECK(one.error == EPERM);
  }
}

std::shared_ptr<Engine> make_engine() {
  auto engine = Engine::create({.confinement_required = true});
  if (!engine.ok()) {
    throw std::runtime_error(engine.status().ToString());
  }
  return *std::move(engine);
}

// A sandbox around a machine that was never given a kernel: it stays paused.
std::shared_ptr<SandboxLife> make_sandbox(Engine* engine, std::shared_ptr<jail::Tenant>* tenant) {
  auto memfd = create_memfd("ramet-test", kGuestMemoryBytes);
  REQUIRE(memfd.ok());
  auto memory = GuestMemory::create(memfd->get(), small_regions(), MapMode::kShared);
  REQUIRE(memory.ok());
  auto instance = Instance::create(engine->instance_host(), *std::move(memory), 1, {});
  REQUIRE(instance.ok());
  *tenant = (*instance)->machine().tenant();
  return SandboxLife::create(engine, std::make_unique<LocalMachine>(*std::move(instance)), {});
}

}  // namespace

TEST_CASE("code in a vCPU thread is refused every call of the drill, and its machine ends for it") {
  RAMET_NEED_KVM(kvm);
  const auto attempts = escape_attempts();
  auto box = make_box(kvm, Program::kStream);
  REQUIRE(box.ok());
  std::vector<Tried> tried;
  std::promise<void> done;
  // Every access of the guest comes here on its vCPU's thread; the first is the break-out. Not the
  // function's own flag: the recorder calls a copy of it each time.
  bool first = true;
  box->ports->set_on_write([&](const Access&) {
    if (std::exchange(first, false)) {
      tried = try_all(attempts);
      done.set_value();
    }
  });
  REQUIRE(box->machine->resume().ok());
  REQUIRE(done.get_future().wait_for(std::chrono::seconds(30)) == std::future_status::ready);
  const auto end = box->machine->wait_end(monotonic_ns() + 30 * kSecond);
  REQUIRE(end.has_value());
  CHECK(end->reason == EndReason::kRefusedCall);
  INFO(end->detail);
  CHECK(end->detail.find("a vcpu thread was refused the system call open(") != std::string::npos);
  box->machine->stop();
  check_refused(tried);
}

TEST_CASE(
    "code in a worker is refused every call of the drill, and poisons the sandbox it works for") {
  RAMET_NEED_KVM(kvm);
  const auto attempts = escape_attempts();
  const auto engine = make_engine();
  std::shared_ptr<jail::Tenant> guilty;
  std::shared_ptr<jail::Tenant> innocent;
  const auto poisoned = make_sandbox(engine.get(), &guilty);
  const auto other = make_sandbox(engine.get(), &innocent);
  std::vector<Tried> tried;
  engine->workers()->post([&] { tried = try_all(attempts); }, guilty);
  REQUIRE(engine->workers()->drain(monotonic_ns() + 30 * kSecond).ok());
  check_refused(tried);
  REQUIRE(wait_for([&] { return poisoned->state() == SandboxState::kPoisoned; }));
  CHECK(reason_of(poisoned->end_reason()) == reason::kCallRefused);
  CHECK(poisoned->running("exec").status().code() == absl::StatusCode::kDataLoss);
  CHECK(other->state() == SandboxState::kRunning);
  CHECK(engine->jail().refused() == attempts.size());
  poisoned->detach();
  other->detach();
  CHECK(poisoned->wait_gone(monotonic_ns() + 30 * kSecond).ok());
  CHECK(reason_of(poisoned->end_reason()) == reason::kCallRefused);
}

TEST_CASE("a poisoned sandbox leaves no thread, descriptor or mapping when it is gone") {
  RAMET_NEED_KVM(kvm);
  const size_t threads = thread_count();
  const size_t descriptors = descriptor_count();
  {
    const auto engine = make_engine();
    for (int i = 0; i < 20; ++i) {
      std::shared_ptr<jail::Tenant> tenant;
      const auto life = make_sandbox(engine.get(), &tenant);
      engine->workers()->post([] { ::syscall(SYS_socket, AF_INET, SOCK_STREAM, 0); }, tenant);
      REQUIRE(wait_for([&] { return life->state() == SandboxState::kPoisoned; }));
      life->detach();
      REQUIRE(life->wait_gone(monotonic_ns() + 30 * kSecond).ok());
    }
  }
  CHECK(settled(thread_count, threads) <= threads);
  CHECK(settled(descriptor_count, descriptors) <= descriptors);
}

TEST_CASE("the log and the console of an embedder run on a thread that is not filtered") {
  RAMET_NEED_KVM(kvm);
  std::promise<long> opened;
  EngineConfig config;
  config.log = [&, first = true](LogLevel, std::string_view) mutable {
    if (std::exchange(first, false)) {
      opened.set_value(::syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDONLY | O_CLOEXEC, 0));
    }
  };
  const auto engine = Engine::create(std::move(config));
  REQUIRE(engine.ok());
  // A worker that is refused a call makes the engine log a line.
  (*engine)->workers()->post([] { ::syscall(SYS_socket, AF_INET, SOCK_STREAM, 0); });
  auto result = opened.get_future();
  REQUIRE(result.wait_for(std::chrono::seconds(30)) == std::future_status::ready);
  const long fd = result.get();
  CHECK(fd >= 0);
  ::close(static_cast<int>(fd));
}
