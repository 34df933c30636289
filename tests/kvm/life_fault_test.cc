// A sandbox's whole life, with a hand-made guest, in which one system call fails or is cut short:
// for every one.
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <deque>

#include <catch2/catch.hpp>

#include "tests/guests/life.h"
#include "tests/guests/runner.h"
#include "tests/kvm/need_kvm.h"
#include "tests/support/temp_dir.h"
#include "vmm/base/fault_plan.h"

using namespace ramet;
using namespace ramet::testing;

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::array<int, 4> kErrors = {EIO, ENOMEM, EMFILE, ENOSPC};
// Two deadlines of a guest that lost an answer, and what a busy machine adds.
constexpr auto kPatience = std::chrono::seconds(60);

struct Count {
  uint64_t failed = 0;    // lives in which the plan fired
  uint64_t survived = 0;  // and that went well all the same
};

// False: the plan did not fire any more.
bool live_with(uint64_t n, int error, Count* count, LivesIn where = LivesIn::kThisProcess) {
  const TempDir folder;
  const Belongings before = belongings();
  const auto start = Clock::now();
  // Kept to the end: threads of the library may still be looking at one that was disarmed.
  static std::deque<sys::FaultPlan> plans;
  sys::FaultPlan* const plan = &plans.emplace_back(sys::Call::kAny, n, error);
  plan->arm();
  const Lived lived = live(folder.path(), where);
  plan->disarm();
  const auto took = Clock::now() - start;
  INFO("call " << n << ", errno " << error << " (-1: cut short): " << lived.status.ToString());
  CHECK(lived.broken == "");
  CHECK(took < kPatience);
  CHECK((plan->fired() || lived.status.ok()));
  CHECK((error != sys::kShortTransfer || lived.status.ok()));
  CHECK((lived.status.ok() || !lived.status.message().empty()));
  CHECK(left_behind(before) == std::vector<std::string>());
  count->failed += plan->fired() ? 1 : 0;
  count->survived += plan->fired() && lived.status.ok() ? 1 : 0;
  return plan->fired();
}

void print(const char* what, const Count& count) {
  std::printf("%s: %llu lives, %llu of them went well\n", what,
              static_cast<unsigned long long>(count.failed),
              static_cast<unsigned long long>(count.survived));
}

}  // namespace

TEST_CASE("whichever system call fails in a sandbox's life, it is a Status and nothing is left") {
  RAMET_NEED_KVM(kvm);
  Count count;
  const uint64_t stride = in_nested_machine() && !long_run() ? 7 : 1;
  bool fired = true;
  for (uint64_t n = 1; fired; n += stride) {
    REQUIRE(n < 10'000);
    if (long_run()) {
      for (const int error : kErrors) {
        fired = live_with(n, error, &count);
      }
    } else {
      fired = live_with(n, kErrors[n % kErrors.size()], &count);
    }
  }
  CHECK(count.failed > 100 / stride);
  CHECK(count.survived < count.failed);
  print("each call failed", count);
}

TEST_CASE(
    "whichever system call fails around a helper process, it is a Status and nothing is left") {
  RAMET_NEED_KVM(kvm);
  Count count;
  const uint64_t stride = in_nested_machine() && !long_run() ? 7 : 1;
  for (uint64_t n = 1; live_with(n, kErrors[n % kErrors.size()], &count, LivesIn::kHelper);
       n += stride) {
    REQUIRE(n < 10'000);
  }
  CHECK(count.failed > 100 / stride);
  CHECK(count.survived < count.failed);
  print("each call failed around a helper process", count);
}

TEST_CASE(
    "whichever system call fails around a worker process, it is a Status and nothing is left") {
  RAMET_NEED_KVM(kvm);
  Count count;
  const uint64_t stride = in_nested_machine() && !long_run() ? 7 : 1;
  for (uint64_t n = 1; live_with(n, kErrors[n % kErrors.size()], &count, LivesIn::kWorker);
       n += stride) {
    REQUIRE(n < 10'000);
  }
  CHECK(count.failed > 100 / stride);
  CHECK(count.survived < count.failed);
  print("each call failed around a worker process", count);
}

TEST_CASE("whichever transfer is cut short in a sandbox's life, it goes on, to the end") {
  RAMET_NEED_KVM(kvm);
  Count count;
  for (uint64_t n = 1; live_with(n, sys::kShortTransfer, &count); ++n) {
    REQUIRE(n < 10'000);
  }
  CHECK(count.failed > 10);
  print("each transfer cut short", count);
}
