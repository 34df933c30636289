// Posted jobs run once and in order; a drain waits for them, but not for ever.
#include "vmm/io/worker_pool.h"

#include <atomic>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <future>
#include <numeric>
#include <thread>

#include <catch2/catch.hpp>

#include "vmm/base/clock.h"
#include "vmm/base/fault_plan.h"

using namespace ramet;

namespace {

constexpr uint64_t kSecond = 1'000'000'000;

uint64_t in_seconds(uint64_t seconds) { return monotonic_ns() + seconds * kSecond; }

size_t threads() {
  const std::filesystem::directory_iterator all("/proc/self/task");
  return static_cast<size_t>(std::distance(begin(all), end(all)));
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
  const auto pool = WorkerPool::start("test", 1);
  REQUIRE(pool.ok());
  for (int i = 0; i < 1000; ++i) {
    (*pool)->post([&seen, i] { seen.push_back(i); });
  }
  REQUIRE((*pool)->drain(in_seconds(60)).ok());
  std::vector<int> wanted(1000);
  std::iota(wanted.begin(), wanted.end(), 0);
  CHECK(seen == wanted);
}

TEST_CASE("several threads run every job once, also those that jobs post") {
  std::atomic<int> runs = 0;
  const auto pool = WorkerPool::start("test", 4);
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
  const auto pool = WorkerPool::start("test", 2);
  REQUIRE(pool.ok());
  CHECK((*pool)->drain(0).ok());
  CHECK((*pool)->drain(in_seconds(1000)).ok());
}

TEST_CASE("a drain gives up at its deadline and says how many jobs are left") {
  Gate gate;
  const auto pool = WorkerPool::start("test", 1);
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
  const auto pool = WorkerPool::start("test", 1);
  REQUIRE(pool.ok());
  for (int i = 0; i < 100; ++i) {
    (*pool)->post([copy = owned] { (void)copy; });
    REQUIRE((*pool)->drain(in_seconds(60)).ok());
    CHECK(owned.use_count() == 1);
  }
}

TEST_CASE("destruction runs what is queued and leaves no thread") {
  const size_t before = threads();
  std::atomic<int> runs = 0;
  Gate gate;
  {
    auto pool = WorkerPool::start("test", 2);
    REQUIRE(pool.ok());
    CHECK(threads() == before + 2);
    (*pool)->post(gate.job());
    for (int i = 0; i < 100; ++i) {
      (*pool)->post([&] { ++runs; });
    }
    gate.wait_entered();
    gate.open();
  }
  CHECK(runs == 100);
  CHECK(threads() == before);
}

TEST_CASE("a thread that cannot be made half way is a Status, and those before it are gone") {
  const size_t before = threads();
  for (uint64_t n = 1; n <= 4; ++n) {
    sys::FaultPlan plan(sys::Call::kThreadCreate, n, EAGAIN);
    plan.arm();
    const auto pool = WorkerPool::start("test", 4);
    plan.disarm();
    CHECK(pool.status().code() == absl::StatusCode::kUnavailable);
    CHECK(std::string(pool.status().message()).find("test" + std::to_string(n - 1)) !=
          std::string::npos);
    CHECK(threads() == before);
  }
}
