// Memory pressure: what the kernel's files say, when it is too much, and how forks wait for it.
#include "lib/core/pressure.h"

#include <atomic>
#include <future>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "lib/core/pressure_gate.h"
#include "lib/instance/reasons.h"
#include "tests/support/settle.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

constexpr uint64_t kMs = 1'000'000;
constexpr uint64_t kSecond = 1'000 * kMs;
constexpr uint64_t kGiB = uint64_t{1} << 30;

constexpr char kPsi[] =
    "some avg10=12.34 avg60=1.00 avg300=0.10 total=123\n"
    "full avg10=0.05 avg60=0.00 avg300=0.00 total=45\n";
constexpr char kMeminfo[] =
    "MemTotal:       24684096 kB\nMemFree:        21502908 kB\nMemAvailable:   24195812 kB\n";

// A host whose memory goes and comes back.
struct Host {
  std::atomic<bool> is_short{false};
  std::atomic<int> readings{0};
  std::atomic<int> relieved{0};
  std::atomic<int> told{0};
  PressureGate gate{{.source =
                         [this] {
                           ++readings;
                           return PressureFigures{.available_bytes = is_short ? 0 : 10 * kGiB,
                                                  .total_bytes = 20 * kGiB};
                         },
                     .limits = {},
                     .relieve = [this] { ++relieved; },
                     .tell = [this](std::string_view) { ++told; }}};

  void wait_for_waiting(size_t count) const {
    const uint64_t deadline = monotonic_ns() + 30 * kSecond;
    while (gate.waiting() != count && monotonic_ns() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    REQUIRE(gate.waiting() == count);
  }
};

uint64_t after(uint64_t ns) { return monotonic_ns() + ns; }

}  // namespace

TEST_CASE("pressure and available memory are read from the kernel's text") {
  const PressureFigures figures = parse_pressure(kPsi, kMeminfo);
  CHECK(figures.some == 1234U);
  CHECK(figures.full == 5U);
  CHECK(figures.total_bytes == uint64_t{24684096} * 1024);
  CHECK(figures.available_bytes == uint64_t{24195812} * 1024);
}

TEST_CASE("what the kernel's text does not say, or says otherwise, is absent") {
  for (const char* psi :
       {"", "some", "some avg60=1.00", "some avg10=", "some avg10=1", "some avg10=1.5",
        "some avg10=1.234", "some avg10=x.00", "some avg10=200.00", "somewhat avg10=1.00"}) {
    INFO(psi);
    CHECK_FALSE(parse_pressure(psi, kMeminfo).some);
    CHECK_FALSE(parse_pressure(psi, kMeminfo).full);
  }
  for (const char* meminfo : {"", "MemTotal:", "MemTotal: many kB", "Total: 5 kB"}) {
    CHECK(parse_pressure(kPsi, meminfo).total_bytes == 0);
  }
  CHECK_FALSE(shortage_of({}, {}));  // nothing known: nothing is short
}

TEST_CASE("each figure beyond its limit is a shortage that names it; 0 is no limit") {
  const PressureLimits limits = {
      .min_available_percent = 10, .max_some_percent = 50, .max_full_percent = 20};
  const PressureFigures good = {
      .some = 5'000, .full = 2'000, .available_bytes = 2 * kGiB, .total_bytes = 20 * kGiB};
  CHECK_FALSE(shortage_of(good, limits));
  PressureFigures bad = good;
  bad.available_bytes = kGiB;
  REQUIRE(shortage_of(bad, limits));
  CHECK(shortage_of(bad, limits)->what ==
        "1024 MiB of memory are available, 2047 MiB (10 %) are wanted for another fork");
  CHECK_FALSE(shortage_of(bad, {.min_available_percent = 0}));
  bad = good;
  bad.full = 2'001;
  REQUIRE(shortage_of(bad, limits));
  CHECK(shortage_of(bad, limits)->what.find("all tasks waited for memory in 20.01 %") == 0);
  CHECK_FALSE(shortage_of(bad, {.max_full_percent = 0}));
  bad = good;
  bad.some = 10'000;
  REQUIRE(shortage_of(bad, limits));
  CHECK(shortage_of(bad, limits)->retry_after_ms == 7'000);  // 0.9 to the 7th is below a half
  CHECK_FALSE(shortage_of(bad, {.max_some_percent = 0}));
}

TEST_CASE("this host's own figures can be read, again and again, from the same descriptors") {
  HostPressure host;
  const PressureFigures first = host.read();
  CHECK(first.total_bytes > 0);
  CHECK(first.available_bytes > 0);
  CHECK(first.available_bytes <= first.total_bytes);
  const size_t descriptors = descriptor_count();
  for (int i = 0; i < 100; ++i) {
    CHECK(host.read().total_bytes == first.total_bytes);
  }
  CHECK(descriptor_count() == descriptors);
}

TEST_CASE("an open gate reads once for a burst of forks, and nobody waits") {
  Host host;
  const uint64_t start = monotonic_ns();
  for (int i = 0; i < 1'000; ++i) {
    REQUIRE(host.gate.enter(after(kSecond)).ok());
  }
  const uint64_t took = monotonic_ns() - start;
  CHECK(host.readings <= 1 + static_cast<int>(took / PressureGate::kFreshNs));
  CHECK(host.relieved == 0);
  CHECK(host.told == 0);
}

TEST_CASE("a fork that waits to its deadline is refused with the figures and a time to try again") {
  Host host;
  host.is_short = true;
  const uint64_t start = monotonic_ns();
  const Status status = host.gate.enter(after(100 * kMs));
  const uint64_t took = monotonic_ns() - start;
  CHECK(took >= 100 * kMs);
  CHECK(status.code() == absl::StatusCode::kResourceExhausted);
  CHECK(reason_of(status) == reason::kHostBusy);
  CHECK(retry_after_ms_of(status) == 1'000);
  CHECK(status.message() ==
        "the host is busy: 0 MiB of memory are available, 614 MiB (3 %) are wanted for another "
        "fork; try again in 1000 ms");
  CHECK(host.relieved == 1);
  CHECK(host.told == 1);
  CHECK(host.gate.waiting() == 0);
}

TEST_CASE("forks that wait pass in their order, one for each reading, once there is memory") {
  Host host;
  host.is_short = true;
  constexpr size_t kForks = 5;
  std::mutex mutex;
  std::vector<size_t> order;
  std::vector<uint64_t> when;
  std::vector<std::future<Status>> forks;
  for (size_t i = 0; i < kForks; ++i) {
    forks.push_back(std::async(std::launch::async, [&, i] {
      Status status = host.gate.enter(after(30 * kSecond));
      const std::lock_guard lock(mutex);
      order.push_back(i);
      when.push_back(monotonic_ns());
      return status;
    }));
    host.wait_for_waiting(i + 1);
  }
  host.is_short = false;
  for (auto& fork : forks) {
    CHECK(fork.get().ok());
  }
  CHECK(order == std::vector<size_t>{0, 1, 2, 3, 4});
  CHECK(when.back() - when.front() >= (kForks - 2) * PressureGate::kFreshNs);
  CHECK(host.gate.waiting() == 0);
}

TEST_CASE("one that gives up lets those behind it pass, and newcomers stand behind all") {
  Host host;
  host.is_short = true;
  auto first = std::async(std::launch::async, [&] { return host.gate.enter(after(200 * kMs)); });
  host.wait_for_waiting(1);
  auto second =
      std::async(std::launch::async, [&] { return host.gate.enter(after(30 * kSecond)); });
  host.wait_for_waiting(2);
  CHECK_FALSE(first.get().ok());
  host.is_short = false;
  CHECK(second.get().ok());
  CHECK(host.gate.enter(after(kSecond)).ok());
}

TEST_CASE("errors for want of memory, descriptors or threads are a busy host, others are not") {
  const Status want = absl::ResourceExhaustedError("open /dev/kvm: Too many open files");
  CHECK(is_want(want));
  CHECK(is_want(absl::UnavailableError("start thread: Resource temporarily unavailable")));
  CHECK(reason_of(as_busy(want)) == reason::kHostBusy);
  CHECK(as_busy(want).message() ==
        "the host is busy: open /dev/kvm: Too many open files; try again in 1000 ms");
  for (const Status& other :
       {Status(), absl::Status(absl::InternalError("x")),
        with_reason(absl::UnavailableError("powered off"), reason::kGuestDied),
        limit_status({LimitKind::kCpuTime, 1, 2})}) {
    CHECK_FALSE(is_want(other));
    CHECK(as_busy(other) == other);
  }
}
