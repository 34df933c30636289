// Posted jobs run once and in order; a drain waits for them, but not for ever.
#include "vmm/io/worker_pool.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <future>
#include <numeric>
#include <thread>

#include <catch2/catch.hpp>

#include "tests/support/settle.h"
#include "vmm/base/clock.h"
#include "vmm/base/fault_plan.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

constexpr uint64_t kSecond = 1'000'000'000;

uint64_t in_seconds(uint64_t seconds) { return monotonic_ns() + seconds * kSecond; }

std::unique_ptr<jail::Jail> make_jail() {
  auto jail = jail::Jail::create({.facts = {.kick_signal = SIGRTMIN + 6}, .max_idle = 0});
  REQUIRE(jail.ok());
  return *std::move(jail);
}

// A jail whose threads, the two of its supervisor, are all that there is besides this one.
std::unique_ptr<jail::Jail> make_settled_jail() {
  const size_t before = thread_count();
  auto jail = make_jail();
  REQUIRE(settled(thread_count, before + 2) == before + 2);
  return jail;
}

// A pool in a jail of its own.
struct Pool {
  std::unique_ptr<jail::Jail> jail;
  std::unique_ptr<WorkerPool> pool;

  bool ok() const { return pool != nullptr; }
  WorkerPool* operator*() const { return pool.get(); }
};

Pool start_pool(uint32_t threads) {
  Pool made;
  made.jail = make_jail();
  auto pool = WorkerPool::start(made.jail.get(), jail::ThreadKind::kWorker, threads);
  REQUIRE(pool.ok());
  made.pool = *std::move(pool);
  return made;
}

// A job that runs until it is let go.
class Gate {
 public:
  std::function<void()> job() {
    return [this] {
      entered_.set_value();
      gate_.wait();
    };
  }
  void wait_entered() { entered_.get_future().wait(); }
  void open() { opener_.set_value(); }

 private:
  std::promise<void> entered_;
  std::promise<void> opener_;
  std::shared_future<void> gate_ = opener_.get_future().share();
};

}  // namespace

TEST_CASE("one thread runs jobs in the order of posting") {
  std::vector<int> seen;
  const auto pool = start_pool(1);
  REQUIRE(pool.ok());
  for (int i = 0; i < 1000; ++i) {
    (*pool)->post([&seen, i] { seen.push_back(i); });
  }
  REQUIRE((*pool)->drain(in_seconds(60)).ok());
  std::vector<int> wanted(1000);
  std::iota(wanted.begin(), wanted.end(), 0);
  CHECK(seen == wanted);
}

TEST_CASE("a job that was posted for later runs then, beside those that are not") {
  const auto pool = start_pool(2);
  REQUIRE(pool.ok());
  const uint64_t due = monotonic_ns() + 50'000'000;
  std::promise<uint64_t> later;
  std::promise<uint64_t> at_once;
  (*pool)->post_at(due, [&] { later.set_value(monotonic_ns()); });
  (*pool)->post([&] { at_once.set_value(monotonic_ns()); });
  CHECK(at_once.get_future().get() < due);
  CHECK(later.get_future().get() >= due);
}

TEST_CASE("jobs for later run in the order of their times") {
  std::vector<int> seen;
  const auto pool = start_pool(1);
  REQUIRE(pool.ok());
  const uint64_t now = monotonic_ns();
  for (const int place : {3, 1, 2}) {
    (*pool)->post_at(now + static_cast<uint64_t>(place) * 5'000'000,
                     [&seen, place] { seen.push_back(place); });
  }
  REQUIRE((*pool)->drain(in_seconds(60)).ok());
  CHECK(seen == std::vector<int>{1, 2, 3});
}

TEST_CASE("a pool that ends runs what is not yet due") {
  bool ran = false;
  {
    const auto pool = start_pool(2);
    REQUIRE(pool.ok());
    (*pool)->post_at(in_seconds(3'600), [&] { ran = true; });
  }
  CHECK(ran);
}

TEST_CASE("several threads run every job once, also those that jobs post") {
  std::atomic<int> runs = 0;
  const auto pool = start_pool(4);
  REQUIRE(pool.ok());
  for (int i = 0; i < 500; ++i) {
    (*pool)->post([&] {
      ++runs;
      (*pool)->post([&] { ++runs; });
    });
  }
  REQUIRE((*pool)->drain(in_seconds(60)).ok());
  CHECK(runs == 1000);
}

TEST_CASE("a drain with nothing to do is over at once, even when its deadline has passed") {
  const auto pool = start_pool(2);
  REQUIRE(pool.ok());
  CHECK((*pool)->drain(0).ok());
  CHECK((*pool)->drain(in_seconds(1000)).ok());
}

TEST_CASE("a drain gives up at its deadline and says how many jobs are left") {
  Gate gate;
  const auto pool = start_pool(1);
  REQUIRE(pool.ok());
  (*pool)->post(gate.job());
  (*pool)->post([] {});
  gate.wait_entered();
  const uint64_t deadline = monotonic_ns() + kSecond / 20;
  const Status status = (*pool)->drain(deadline);
  CHECK(monotonic_ns() >= deadline);
  CHECK(status.code() == absl::StatusCode::kDeadlineExceeded);
  CHECK(std::string(status.message()).find("2 jobs") != std::string::npos);
  gate.open();
  CHECK((*pool)->drain(in_seconds(60)).ok());
}

TEST_CASE("what a job owns is gone when the drain returns") {
  const auto owned = std::make_shared<int>(1);
  const auto pool = start_pool(1);
  REQUIRE(pool.ok());
  for (int i = 0; i < 100; ++i) {
    (*pool)->post([copy = owned] { (void)copy; });
    REQUIRE((*pool)->drain(in_seconds(60)).ok());
    CHECK(owned.use_count() == 1);
  }
}

TEST_CASE("destruction runs what is queued and leaves no thread") {
  const auto jail = make_settled_jail();
  const size_t before = thread_count();
  std::atomic<int> runs = 0;
  Gate gate;
  {
    const auto pool = WorkerPool::start(jail.get(), jail::ThreadKind::kWorker, 2);
    REQUIRE(pool.ok());
    CHECK(thread_count() == before + 2);
    (*pool)->post(gate.job());
    for (int i = 0; i < 100; ++i) {
      (*pool)->post([&] { ++runs; });
    }
    gate.wait_entered();
    gate.open();
  }
  CHECK(runs == 100);
  CHECK(settled(thread_count, before) == before);
}

TEST_CASE("a thread that cannot be made half way is a Status, and those before it are gone") {
  const auto jail = make_settled_jail();
  const size_t before = thread_count();
  for (uint64_t n = 1; n <= 4; ++n) {
    sys::FaultPlan plan(sys::Call::kThreadCreate, n, EAGAIN);
    plan.arm();
    const auto pool = WorkerPool::start(jail.get(), jail::ThreadKind::kWorker, 4);
    plan.disarm();
    CHECK(pool.status().code() == absl::StatusCode::kUnavailable);
    CHECK(pool.status().message().find("start thread ramet-worker") != std::string::npos);
    CHECK(settled(thread_count, before) == before);
  }
}

TEST_CASE("a thread that was refused a call is replaced, and does no other job") {
  const auto jail = make_jail();
  const auto pool = WorkerPool::start(jail.get(), jail::ThreadKind::kWorker, 1);
  REQUIRE(pool.ok());
  long first = 0;
  long second = 0;
  (*pool)->post([&] {
    first = ::syscall(SYS_gettid);
    ::syscall(SYS_socket, 0, 0, 0);
  });
  REQUIRE((*pool)->drain(in_seconds(60)).ok());
  REQUIRE((*pool)->renew_refused().ok());
  (*pool)->post([&] { second = ::syscall(SYS_gettid); });
  REQUIRE((*pool)->drain(in_seconds(60)).ok());
  CHECK(first != 0);
  CHECK(second != 0);
  CHECK(first != second);
}

TEST_CASE("threads that were refused a call do not pile up") {
  const auto jail = make_jail();
  const auto pool = WorkerPool::start(jail.get(), jail::ThreadKind::kWorker, 1);
  REQUIRE(pool.ok());
  const size_t before = thread_count();
  for (int i = 0; i < 20; ++i) {
    (*pool)->post([] { ::syscall(SYS_socket, 0, 0, 0); });
    REQUIRE((*pool)->drain(in_seconds(60)).ok());
    REQUIRE((*pool)->renew_refused().ok());
  }
  // The last of them goes with the next.
  CHECK(settled(thread_count, before + 1) <= before + 1);
}

TEST_CASE("where no new thread can be had, the refused one goes on rather than nobody") {
  const auto jail = make_jail();
  const auto pool = WorkerPool::start(jail.get(), jail::ThreadKind::kWorker, 1);
  REQUIRE(pool.ok());
  (*pool)->post([] { ::syscall(SYS_socket, 0, 0, 0); });
  REQUIRE((*pool)->drain(in_seconds(60)).ok());
  {
    sys::FaultPlan plan(sys::Call::kThreadCreate, 1, EAGAIN);
    plan.arm();
    CHECK((*pool)->renew_refused().code() == absl::StatusCode::kUnavailable);
  }
  std::atomic<bool> ran = false;
  (*pool)->post([&] { ran = true; });
  CHECK((*pool)->drain(in_seconds(60)).ok());
  CHECK(ran);
}

TEST_CASE("who waits for a backlog to shrink goes on when it has, or gives up at its deadline") {
  Gate gate;
  const auto pool = start_pool(1);
  REQUIRE(pool.ok());
  (*pool)->post(gate.job());
  (*pool)->post([] {});
  gate.wait_entered();
  CHECK((*pool)->wait_below(3, 0).ok());
  const Status status = (*pool)->wait_below(2, monotonic_ns() + kSecond / 20);
  CHECK(absl::IsDeadlineExceeded(status));
  CHECK(std::string(status.message()) == "2 jobs were to be done at the deadline");
  gate.open();
  CHECK((*pool)->wait_below(1, in_seconds(60)).ok());
}
