#include "tests/fault/fault_sweep.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

namespace ramet::testing {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::array<int, 3> kErrors = {EIO, ENOMEM, EMFILE};
constexpr uint64_t kNoMore = 20'000;

void settle(const Sweep& sweep) {
  if (sweep.engine != nullptr) {
    const absl::Status drained = sweep.engine->drain(std::chrono::seconds(60));
    RAMET_REQUIRE_OK(drained);
  }
}

// One line for each n; what hangs is the one without an end.
void trace(const std::string& line) {
  std::printf("%s\n", line.c_str());
  std::fflush(stdout);
}

// False: the plan did not fire.
bool run_once(const Sweep& sweep, const Steps& steps, uint64_t n) {
  settle(sweep);
  const ProcessCounts before = quiet_process();
  steps.prepare();
  const int error = kErrors[n % kErrors.size()];
  const std::string what = sweep.name + " " + std::to_string(n) + " errno " + std::to_string(error);
  trace(what);
  const auto start = Clock::now();
  absl::Status status;
  bool fired = false;
  {
    Fault fault(sweep.call, n, error);
    status = steps.operation();
    fault.disarm();
    fired = fault.fired();
  }
  const auto took = Clock::now() - start;
  steps.clean_up();
  settle(sweep);
  const ProcessCounts after = settled_process(before);
  INFO(what << (fired ? ": " : ", not reached: ") << status);
  trace("  " + std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(took).count()) +
        " ms: " + status.ToString());
  CHECK(took < sweep.patience);
  CHECK((fired || status.ok()));
  CHECK(after.fds == before.fds);
  CHECK(after.threads == before.threads);
  return fired;
}

}  // namespace

Fault::Fault(sys::Call call, uint64_t n, int error) : plan_(call, n, error) { plan_.arm(); }

uint64_t run_sweep(const Sweep& sweep, const Steps& steps) {
  if (sweep.engine != nullptr) {
    check_fork_works();  // an engine's first fork opens what it keeps
  }
  uint64_t failed = 0;
  for (uint64_t n = 1; n <= sweep.last; n += n < sweep.dense ? 1 : 1 + n / 8) {
    REQUIRE(n < kNoMore);
    if (!run_once(sweep, steps, n)) {
      break;
    }
    ++failed;
  }
  return failed;
}

void check_fork_works() {
  auto box = sandbox::fork(*shared_template());
  RAMET_REQUIRE_OK(box);
  const auto result = shell(*box, "echo works");
  RAMET_REQUIRE_OK(result);
  CHECK(result->stdout_data == "works\n");
}

}  // namespace ramet::testing
