// Threads behind filters: what they may do, who is told, what is kept for the next.
#include "vmm/jail/jail.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <future>
#include <stdexcept>
#include <thread>

#include <catch2/catch.hpp>

#include "tests/support/settle.h"
#include "tests/support/skip.h"
#include "vmm/base/fault_plan.h"

using namespace ramet;
using namespace ramet::jail;
using namespace ramet::testing;

namespace {

constexpr std::chrono::seconds kSoon(30);

// Calls that a jail told of.
class Told {
 public:
  std::function<void(const RefusedCall&, bool)> function() {
    return [this](const RefusedCall& call, bool allowed) {
      const std::lock_guard lock(mutex_);
      calls_.push_back(call);
      allowed_.push_back(allowed);
      changed_.notify_all();
    };
  }
  std::shared_ptr<Tenant> tenant() {
    return std::make_shared<Tenant>([this](const RefusedCall& call) { function()(call, false); });
  }
  bool wait_for(size_t count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kSoon, [&] { return calls_.size() >= count; });
  }
  std::vector<RefusedCall> calls() {
    const std::lock_guard lock(mutex_);
    return calls_;
  }
  bool allowed(size_t i) {
    const std::lock_guard lock(mutex_);
    return allowed_.at(i);
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<RefusedCall> calls_;
  std::vector<bool> allowed_;
};

JailOptions options(Mode mode = Mode::kEnforce) {
  return {.mode = mode, .facts = {.kick_signal = SIGRTMIN + 6}};
}

std::unique_ptr<Jail> make(JailOptions wanted) {
  auto made = Jail::create(std::move(wanted));
  REQUIRE(made.ok());
  return *std::move(made);
}

std::unique_ptr<JailedThread> run(Jail* jail, ThreadKind kind, Jail::Body body) {
  auto thread = jail->run(kind, std::move(body));
  if (!thread.ok()) {
    throw std::runtime_error(thread.status().ToString());
  }
  return *std::move(thread);
}

long try_open() { return ::syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY, 0); }

struct Tried {
  long value = 0;
  int error = 0;
};

// What openat() answers in a thread of this kind.
Tried open_in_thread(Jail* jail, ThreadKind kind, std::shared_ptr<Tenant> tenant = nullptr) {
  Tried tried;
  run(jail, kind, [&](TenantSlot& slot) {
    slot.set(tenant);
    errno = 0;
    tried.value = try_open();
    tried.error = errno;
  })->join();
  if (tried.value >= 0) {
    ::close(static_cast<int>(tried.value));
  }
  return tried;
}

// The thread id that a body of this kind gets.
long thread_id(Jail* jail, ThreadKind kind) {
  long id = 0;
  run(jail, kind, [&](TenantSlot&) { id = ::syscall(SYS_gettid); })->join();
  return id;
}

}  // namespace

TEST_CASE("a forbidden call fails with EPERM, is counted, and both engine and tenant are told") {
  Told engine;
  Told tenant;
  JailOptions wanted = options();
  wanted.on_refused = engine.function();
  const auto jail = make(std::move(wanted));
  for (const ThreadKind kind : kThreadKinds) {
    const Tried tried = open_in_thread(jail.get(), kind, tenant.tenant());
    CHECK(tried.value == -1);
    CHECK(tried.error == EPERM);
  }
  REQUIRE(engine.wait_for(kThreadKinds.size()));
  REQUIRE(tenant.wait_for(kThreadKinds.size()));
  CHECK(jail->refused() == kThreadKinds.size());
  for (size_t i = 0; i < kThreadKinds.size(); ++i) {
    CHECK(tenant.calls()[i].thread == kThreadKinds[i]);
    CHECK(tenant.calls()[i].syscall == "openat");
    CHECK(static_cast<int>(engine.calls()[i].arguments[0]) == AT_FDCWD);
    CHECK_FALSE(engine.allowed(i));
  }
}

TEST_CASE("a held thread is answered again where the first answer fails, and never stays held") {
  // The first ioctl takes the held call, the next ones answer it.
  struct FailAnswers final : sys::FaultPlan {
    explicit FailAnswers(uint64_t answers) : FaultPlan(sys::Call::kIoctl, 0, EIO), left(answers) {}
    std::optional<int> on_call(sys::Call call) override {
      if (call != sys::Call::kIoctl || ++seen_ioctls == 1 || left == 0) {
        return std::nullopt;
      }
      --left;
      return EIO;
    }
    uint64_t left;
    uint64_t seen_ioctls = 0;
  };
  for (const uint64_t failing : {1U, 2U, 3U}) {
    INFO(failing << " answers fail");
    const auto jail = make(options());
    FailAnswers plan(failing);
    plan.arm();
    const Tried tried = open_in_thread(jail.get(), ThreadKind::kWorker);
    plan.disarm();
    CHECK(tried.value == -1);
    CHECK(tried.error == (failing < 3 ? EPERM : ENOSYS));
    CHECK(plan.left == 0);
    CHECK(jail->refused() == 1);
    CHECK(jail->idle() == 1);  // what the jail began with
  }
}

TEST_CASE("the thread that starts a jail, and one without a filter, may do everything still") {
  const auto jail = make(options());
  const int here = ::open("/etc/passwd", O_RDONLY | O_CLOEXEC);
  CHECK(here >= 0);
  ::close(here);
  CHECK(::prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
  long there = -1;
  auto thread = jail->run_unconfined("free", [&](TenantSlot&) { there = try_open(); });
  REQUIRE(thread.ok());
  (*thread)->join();
  CHECK(there >= 0);
  ::close(static_cast<int>(there));
}

TEST_CASE("logging lets a forbidden call through, and tells of it") {
  Told told;
  Told tenant;
  JailOptions wanted = options(Mode::kLog);
  wanted.on_refused = told.function();
  const auto jail = make(std::move(wanted));
  CHECK(open_in_thread(jail.get(), ThreadKind::kWorker, tenant.tenant()).value >= 0);
  REQUIRE(told.wait_for(1));
  CHECK(told.allowed(0));
  CHECK(tenant.calls().empty());
}

TEST_CASE("without filters nothing is refused, and the report says so") {
  const auto jail = make(options(Mode::kOff));
  CHECK(open_in_thread(jail.get(), ThreadKind::kVcpu).value >= 0);
  CHECK(jail->report().mode == Mode::kOff);
  CHECK(jail->report().why.empty());
}

TEST_CASE("recording counts the rows that calls needed, and refuses all others") {
  const auto jail = make(options(Mode::kRecord));
  std::array<pollfd, 1> nothing = {pollfd{-1, 0, 0}};
  run(jail.get(), ThreadKind::kStdin, [&](TenantSlot&) { ::poll(nothing.data(), 1, 0); })->join();
  const Policy& policy = jail->policy(ThreadKind::kStdin);
  const auto uses = jail->row_uses(ThreadKind::kStdin);
  for (size_t i = 0; i < policy.size(); ++i) {
    if (policy[i].syscall == "poll") {
      CHECK(uses[i] == 1);
    }
    if (policy[i].syscall == "read") {
      CHECK(uses[i] == 0);
    }
  }
  CHECK(open_in_thread(jail.get(), ThreadKind::kStdin).error == EPERM);
}

TEST_CASE("a thread whose body has ended runs the next one of its kind") {
  const auto jail = make(options());
  const long first = thread_id(jail.get(), ThreadKind::kVcpu);
  CHECK(thread_id(jail.get(), ThreadKind::kVcpu) == first);
  CHECK(thread_id(jail.get(), ThreadKind::kWorker) != first);
  CHECK(open_in_thread(jail.get(), ThreadKind::kVcpu).error == EPERM);
}

TEST_CASE("a thread that was refused a call runs no other body") {
  const auto jail = make(options());
  long first = 0;
  run(jail.get(), ThreadKind::kVcpu, [&](TenantSlot&) {
    first = ::syscall(SYS_gettid);
    try_open();
  })->join();
  CHECK(thread_id(jail.get(), ThreadKind::kVcpu) != first);
}

TEST_CASE("no more idle threads are kept than asked for, and none is left with the jail") {
  const size_t threads = thread_count();
  const size_t descriptors = descriptor_count();
  {
    JailOptions wanted = options();
    wanted.max_idle = 2;
    const auto jail = make(std::move(wanted));
    std::promise<void> go;
    const auto gate = go.get_future().share();
    std::vector<std::unique_ptr<JailedThread>> running;
    for (int i = 0; i < 5; ++i) {
      running.push_back(run(jail.get(), ThreadKind::kWorker, [gate](TenantSlot&) { gate.wait(); }));
    }
    go.set_value();
    running.clear();
    CHECK(jail->idle() == 3);  // and the reaper with which the jail tried its filters
  }
  CHECK(settled(thread_count, threads) <= threads);
  CHECK(settled(descriptor_count, descriptors) <= descriptors);
}

TEST_CASE("the listener of a thread that has ended goes with it") {
  JailOptions wanted = options();
  wanted.max_idle = 0;
  const auto jail = make(std::move(wanted));
  const size_t descriptors = descriptor_count();
  for (int i = 0; i < 20; ++i) {
    thread_id(jail.get(), ThreadKind::kWorker);
  }
  CHECK(settled(descriptor_count, descriptors) <= descriptors);
}

TEST_CASE("a tenant that has closed is told nothing more") {
  Told told;
  const auto tenant = told.tenant();
  tenant->close();
  Told engine;
  JailOptions wanted = options();
  wanted.on_refused = engine.function();
  const auto jail = make(std::move(wanted));
  open_in_thread(jail.get(), ThreadKind::kVcpu, tenant);
  open_in_thread(jail.get(), ThreadKind::kVcpu);
  REQUIRE(engine.wait_for(2));
  CHECK(told.calls().empty());
}

TEST_CASE("a tenant that waits for what the held thread holds does not stop the answers") {
  const auto jail = make(options());
  std::mutex held;
  std::promise<void> told;
  const auto tenant = std::make_shared<Tenant>([&](const RefusedCall&) {
    const std::lock_guard lock(held);
    told.set_value();
  });
  int error = 0;
  run(jail.get(), ThreadKind::kVcpu, [&](TenantSlot& slot) {
    slot.set(tenant);
    const std::lock_guard lock(held);
    try_open();
    error = errno;
  })->join();
  CHECK(error == EPERM);
  CHECK(told.get_future().wait_for(kSoon) == std::future_status::ready);
}

namespace {

// Runs `body` in a thread whose every call is held by somebody else's filter, and let through.
void run_supervised(const std::function<void()>& body) {
  const auto filter = Filter::compile({{"futex", {}, "", "the test"}}, Refusal::kNotify);
  const auto supervisor = Supervisor::start();
  REQUIRE(filter.ok());
  REQUIRE(supervisor.ok());
  std::atomic<int> listener = -1;
  std::atomic<bool> heard = false;
  std::thread thread([&] {
    auto installed = filter->install();
    listener = installed.ok() ? installed->release() : -2;
    while (!heard) {
    }
    if (listener >= 0) {
      body();
    }
  });
  while (listener == -1) {
    std::this_thread::yield();
  }
  const auto added = (*supervisor)->add(UniqueFd(listener), [](const HeldCall&) {
    return Verdict{.allow = true};
  });
  heard = true;
  thread.join();
  REQUIRE(listener >= 0);
  REQUIRE(added.ok());
}

}  // namespace

TEST_CASE(
    "where another filter has the one listener, calls are refused uncounted, and that is said") {
  JailReport report;
  Tried tried;
  uint64_t refused = 1;
  Status strict;
  run_supervised([&] {
    auto jail = Jail::create(options());
    if (jail.ok()) {
      tried = open_in_thread(jail->get(), ThreadKind::kVcpu);
      report = (*jail)->report();
      refused = (*jail)->refused();
    }
    JailOptions wanted = options();
    wanted.required = true;
    strict = Jail::create(std::move(wanted)).status();
  });
  CHECK(tried.value == -1);
  CHECK(tried.error == EPERM);
  CHECK(report.mode == Mode::kEnforce);
  CHECK_FALSE(report.counted);
  CHECK(report.why.find("has a listener already") != std::string::npos);
  CHECK(refused == 0);
  CHECK(strict.code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("a kernel that cannot hold calls up gets filters that refuse them uncounted") {
  sys::FaultPlan plan(sys::Call::kSeccomp, 1, ENOSYS);
  plan.arm();
  const auto jail = make(options());
  plan.disarm();
  REQUIRE(plan.fired());
  CHECK(jail->report().mode == Mode::kEnforce);
  CHECK_FALSE(jail->report().counted);
  CHECK(open_in_thread(jail.get(), ThreadKind::kVcpu).error == EPERM);
  CHECK(jail->refused() == 0);
}

TEST_CASE(
    "a kernel without any filter runs threads without, says so, and fails where one is required") {
  sys::FaultPlan plan(sys::Call::kSeccomp, 1, ENOSYS, true);
  plan.arm();
  const auto jail = Jail::create(options(Mode::kLog));
  JailOptions strict = options();
  strict.required = true;
  const Status refused = Jail::create(std::move(strict)).status();
  plan.disarm();
  REQUIRE(jail.ok());
  CHECK((*jail)->report().mode == Mode::kOff);
  CHECK_FALSE((*jail)->report().why.empty());
  CHECK(refused.code() == absl::StatusCode::kFailedPrecondition);
}

TEST_CASE("each call that a jail makes may fail: a Status, and nothing is left") {
  using sys::Call;
  using sys::FaultPlan;
  { const auto warm = make(options()); }
  const size_t threads = thread_count();
  const size_t descriptors = descriptor_count();
  for (const Call kind : {Call::kSeccomp, Call::kEpoll, Call::kEventfd, Call::kMemfdCreate,
                          Call::kPread, Call::kStat, Call::kFtruncate, Call::kThreadCreate}) {
    uint64_t failed = 0;
    for (uint64_t n = 1; n < 100; ++n) {
      FaultPlan plan(kind, n, ENOMEM);
      plan.arm();
      auto jail = Jail::create(options());
      plan.disarm();
      if (!plan.fired()) {
        break;
      }
      // The thread that waits for events may be the one that is failed: it waits again.
      failed += jail.ok() ? 0 : 1;
      jail = Status(absl::StatusCode::kCancelled, "end it");
      CHECK(settled(thread_count, threads) <= threads);
      CHECK(settled(descriptor_count, descriptors) <= descriptors);
    }
    INFO("kind " << static_cast<int>(kind));
    CHECK(failed > 0);
  }
}

TEST_CASE("a jail whose threads are not told at once to stop ends all the same") {
  using sys::FaultPlan;
  const size_t threads = thread_count();
  for (const int error : {EIO, sys::kShortTransfer}) {
    auto jail = make(options());
    FaultPlan plan(sys::Call::kWrite, 1, error);
    plan.arm();
    jail.reset();
    plan.disarm();
    CHECK(plan.fired());
    CHECK(settled(thread_count, threads) <= threads);
  }
}

namespace {

// Takes and gives back more than one heap of an arena, and blocks that malloc maps by themselves.
void allocate_much() {
  for (int round = 0; round < 20; ++round) {
    std::vector<std::unique_ptr<std::string>> blocks;
    for (size_t k = 0; k < 200; ++k) {
      blocks.push_back(std::make_unique<std::string>(k * 1000, 'x'));
    }
    blocks.push_back(std::make_unique<std::string>());
    blocks.back()->reserve(40 << 20);  // M_MMAP_THRESHOLD grows up to 32 MiB by itself
  }
}

}  // namespace

// The C library reads files of /proc and /sys when an arena is made and when one first shrinks.
TEST_CASE("a confined thread may allocate and free as it likes, with many threads at it") {
  const auto jail = make(options());
  std::vector<std::unique_ptr<JailedThread>> threads;
  std::promise<void> go;
  const auto gate = go.get_future().share();
  for (int i = 0; i < 24; ++i) {
    threads.push_back(run(jail.get(), ThreadKind::kVcpu, [gate](TenantSlot&) {
      gate.wait();
      allocate_much();
    }));
  }
  go.set_value();
  threads.clear();
  CHECK(jail->refused() == 0);
}

TEST_CASE("the rows for the allocator and for the end of a thread are needed, each of them") {
#if defined(RAMET_SANITIZED)
  RAMET_SKIP("a sanitizer brings an allocator of its own");
#endif
  JailOptions wanted = options(Mode::kRecord);
  wanted.max_idle = 0;
  const auto jail = make(std::move(wanted));
  run(jail.get(), ThreadKind::kVcpu, [](TenantSlot&) { allocate_much(); })->join();
  const Policy& policy = jail->policy(ThreadKind::kVcpu);
  const auto uses = jail->row_uses(ThreadKind::kVcpu);
  for (size_t i = 0; i < policy.size(); ++i) {
    if (policy[i].seen == Seen::kInAllocator) {
      INFO(policy[i].syscall << " " << policy[i].what);
      CHECK(uses[i] > 0);
    }
  }
  CHECK(jail->refused() == 0);
}

TEST_CASE("spare threads for vCPUs are made ahead from the first one on, and again when one goes") {
  JailOptions wanted = options();
  wanted.spare = 2;
  const auto jail = make(std::move(wanted));
  const size_t before = jail->idle();
  std::promise<void> go;
  const auto gate = go.get_future().share();
  std::vector<std::unique_ptr<JailedThread>> threads;
  for (int i = 0; i < 3; ++i) {
    threads.push_back(run(jail.get(), ThreadKind::kVcpu, [gate](TenantSlot&) { gate.wait(); }));
    CHECK(wait_for([&] { return jail->idle() == before + 2; }));
  }
  go.set_value();
}

TEST_CASE("no spare threads are made beyond those that may be idle, nor for another kind") {
  JailOptions wanted = options();
  wanted.spare = 2;
  SECTION("none may be idle") {
    wanted.max_idle = 0;
    const auto jail = make(std::move(wanted));
    run(jail.get(), ThreadKind::kVcpu, [](TenantSlot&) {})->join();
    CHECK(jail->idle() == 0);
  }
  SECTION("a worker is asked for") {
    const auto jail = make(std::move(wanted));
    run(jail.get(), ThreadKind::kWorker, [](TenantSlot&) {})->join();
    // The reaper that a jail tries out first, and the worker.
    CHECK(jail->idle() == 2);
  }
}

TEST_CASE(
    "where no spare thread can be had, whoever wants a thread makes it, and one that comes "
    "late is no harm") {
  JailOptions wanted = options();
  wanted.spare = 2;
  const size_t threads = thread_count();
  {
    const auto jail = make(std::move(wanted));
    // The first is made by its caller; the thread that makes spare ones, and what it makes, fail.
    sys::FaultPlan plan(sys::Call::kThreadCreate, 2, EAGAIN, true);
    plan.arm();
    run(jail.get(), ThreadKind::kVcpu, [](TenantSlot&) {})->join();
    CHECK(wait_for([&] { return plan.fired(); }));
    plan.disarm();
    run(jail.get(), ThreadKind::kVcpu, [](TenantSlot&) {})->join();
  }
  CHECK(settled(thread_count, threads) <= threads);
}

TEST_CASE("who works in the background gets threads for vCPUs of the priority of others") {
  JailOptions wanted = options(Mode::kOff);  // else a vCPU's thread may not ask for its priority
  wanted.spare = 1;
  const auto jail = make(std::move(wanted));
  run(jail.get(), ThreadKind::kVcpu, [](TenantSlot&) {})->join();
  std::vector<int> niceness;
  std::promise<void> go;
  const auto gate = go.get_future().share();
  std::vector<std::unique_ptr<JailedThread>> threads;
  int background = 0;
  auto maker = jail->run_unconfined("test", [&](TenantSlot&) {
    Thread::lower_priority();
    background = Thread::niceness();
    for (int i = 0; i < 4; ++i) {  // more than are idle
      std::promise<int> told;
      auto thread = jail->run(ThreadKind::kVcpu, [&, gate](TenantSlot&) {
        told.set_value(Thread::niceness());
        gate.wait();
      });
      if (thread.ok()) {
        niceness.push_back(told.get_future().get());
        threads.push_back(*std::move(thread));
      }
    }
  });
  REQUIRE(maker.ok());
  (*maker)->join();
  go.set_value();
  CHECK(background > Thread::niceness());
  CHECK(niceness == std::vector<int>(4, Thread::niceness()));
}

TEST_CASE("where no threads are made ahead who works in the background makes its own") {
  const auto jail = make(options());
  Status status = absl::UnknownError("not tried");
  auto maker = jail->run_unconfined("test", [&](TenantSlot&) {
    Thread::lower_priority();
    status = jail->run(ThreadKind::kVcpu, [](TenantSlot&) {}).status();
  });
  REQUIRE(maker.ok());
  (*maker)->join();
  CHECK(status == Status());
}

TEST_CASE("who works in the background is told why no thread could be made") {
  JailOptions wanted = options();
  wanted.spare = 1;
  const auto jail = make(std::move(wanted));
  Status status;
  auto maker = jail->run_unconfined("test", [&](TenantSlot&) {
    Thread::lower_priority();
    sys::FaultPlan plan(sys::Call::kThreadCreate, 1, EAGAIN, true);
    plan.arm();
    status = jail->run(ThreadKind::kVcpu, [](TenantSlot&) {}).status();
    plan.disarm();
  });
  REQUIRE(maker.ok());
  (*maker)->join();
  CHECK(absl::IsUnavailable(status));
}
