// A sandbox's whole life in which one system call fails or is cut short: build, save, load, fork,
// exec, kill.
//
// A boot makes thousands of KVM_RUNs, all alike, and takes seconds here. So the calls are counted
// in a life in which nothing fails, apart from ioctls; then some of them, evenly spread, are
// failed, one in each life, and of the ioctls some too. With RAMET_LONG every one that is no ioctl.
#include <array>
#include <cerrno>
#include <cstdio>
#include <deque>
#include <filesystem>

#include "tests/fault/fault_sweep.h"
#include "tests/support/place.h"

namespace {

using namespace ramet::testing;
namespace fs = std::filesystem;
namespace sys = ramet::sys;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kNever = uint64_t{1} << 60;
constexpr auto kPatience = std::chrono::seconds(240);

// Counts and fails the n-th call that is, or is not, an ioctl.
class LifePlan final : public sys::FaultPlan {
 public:
  LifePlan(bool ioctls, uint64_t n, int error)
      : FaultPlan(sys::Call::kAny, n, error), ioctls_(ioctls) {}
  std::optional<int> on_call(sys::Call call) override {
    return (call == sys::Call::kIoctl) == ioctls_ ? FaultPlan::on_call(call) : std::nullopt;
  }

 private:
  const bool ioctls_;
};

absl::Status live(const std::string& directory) {
  sandbox::TemplateOptions options = small_guest("cloud-6.12");
  options.engine = nullptr;
  auto engine = test_engine();
  if (!engine.ok()) {
    return engine.status();
  }
  options.engine = *engine;
  const auto built = sandbox::Template::build(options);
  if (!built.ok()) {
    return built.status();
  }
  if (const absl::Status saved = built->save(directory); !saved.ok()) {
    return saved;
  }
  const auto loaded = sandbox::Template::load(directory, {.engine = *engine});
  if (!loaded.ok()) {
    return loaded.status();
  }
  auto box = sandbox::fork(*loaded, {.ready_timeout = std::chrono::seconds(20)});
  if (!box.ok()) {
    return box.status();
  }
  const auto result =
      box->exec({"sh", "-c", "cat >/root/f; sync; cat /root/f"},
                {.stdin_data = std::string(100'000, 'x'), .timeout = std::chrono::seconds(20)});
  if (!result.ok()) {
    return result.status();
  }
  box->kill();
  return box->wait_gone(std::chrono::seconds(60));
}

struct Lived {
  bool fired = false;
  uint64_t calls = 0;
};

Lived live_with(bool ioctls, uint64_t n, int error) {
  // Kept to the end: threads of the library may still be looking at one that was disarmed.
  static std::deque<LifePlan> plans;
  const std::string folder = temp_root() + "/fault-life";
  fs::remove_all(folder);
  fs::create_directory(folder);
  const ProcessCounts before = quiet_process();
  const auto start = Clock::now();
  LifePlan& plan = plans.emplace_back(ioctls, n, error);
  plan.arm();
  const absl::Status status = live(folder + "/t");
  plan.disarm();
  const auto took = Clock::now() - start;
  const ProcessCounts after = settled_process(before);
  const std::string what = std::string(ioctls ? "ioctl " : "call ") + std::to_string(n) +
                           ", errno " + std::to_string(error) + " (-1: cut short)";
  std::printf("%s: %s\n", what.c_str(), status.ToString().c_str());
  std::fflush(stdout);
  INFO(what << ": " << status);
  CHECK((plan.fired() || status.ok()));
  CHECK((error != sys::kShortTransfer || status.ok()));
  CHECK(took < kPatience);
  CHECK(after.fds == before.fds);
  CHECK(after.threads == before.threads);
  // A template is there whole or not at all.
  CHECK((fs::exists(folder + "/t/manifest.json") || fs::is_empty(folder)));
  fs::remove_all(folder);
  return {.fired = plan.fired(), .calls = plan.seen()};
}

// Fails `lives` calls, evenly spread over those that a life makes; all of them where there are
// fewer.
void sweep(bool ioctls, uint64_t calls, uint64_t lives, int short_error) {
  constexpr std::array<int, 4> kErrors = {EIO, ENOMEM, EMFILE, ENOSPC};
  const uint64_t stride = std::max<uint64_t>(1, calls / lives);
  uint64_t fired = 0;
  uint64_t index = 0;
  for (uint64_t n = 1 + stride / 2; n <= calls; n += stride) {
    const int error = short_error != 0 ? short_error : kErrors[index++ % kErrors.size()];
    fired += live_with(ioctls, n, error).fired ? 1 : 0;
  }
  CHECK(fired > 0);
}

}  // namespace

TEST_CASE("whichever system call fails in a whole life, it is a Status and nothing is left") {
  RAMET_NEED_GUEST();
  const uint64_t calls = live_with(false, kNever, EIO).calls;
  REQUIRE(calls > 100);
  sweep(false, calls, long_run() ? calls : 6, 0);
}

TEST_CASE("whichever ioctl fails in a whole life, it is a Status and nothing is left") {
  RAMET_NEED_GUEST();
  const uint64_t calls = live_with(true, kNever, EIO).calls;
  REQUIRE(calls > 100);
  sweep(true, calls, long_run() ? 60 : 3, 0);
}

TEST_CASE("whichever transfer is cut short in a whole life, it goes on, to the end") {
  RAMET_NEED_GUEST();
  const uint64_t transfers = live_with(false, kNever, sys::kShortTransfer).calls;
  REQUIRE(transfers > 20);
  sweep(false, transfers, long_run() ? 60 : 3, sys::kShortTransfer);
}
