// A sandbox's whole life in which one system call fails or is cut short: build, save, load, fork,
// exec, kill.
//
// A boot makes thousands of KVM_RUNs, all alike, and takes seconds here. So the calls of each step
// are counted in a life in which nothing fails, ioctls and transfers apart; then one of each step
// is failed, in a life of its own, and of the ioctls and transfers some too. With RAMET_LONG every
// one that is no ioctl.
#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <deque>
#include <filesystem>
#include <functional>

#include "tests/fault/fault_sweep.h"
#include "tests/support/place.h"

namespace {

using namespace ramet::testing;
namespace fs = std::filesystem;
namespace sys = ramet::sys;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kNever = uint64_t{1} << 60;
constexpr auto kPatience = std::chrono::seconds(240);

// Which calls a plan counts.
enum class Kind : uint8_t { kOther, kIoctl, kTransfer };

bool is_of(Kind kind, sys::Call call) {
  switch (kind) {
    case Kind::kIoctl:
      return call == sys::Call::kIoctl;
    case Kind::kTransfer:
      return call == sys::Call::kRead || call == sys::Call::kWrite || call == sys::Call::kPread ||
             call == sys::Call::kPwrite || call == sys::Call::kGetrandom;
    case Kind::kOther:
      break;
  }
  return call != sys::Call::kIoctl;
}

// The steps of a life, in order.
enum Step : size_t { kBuild, kSave, kLoad, kFork, kExec, kKill, kSteps };

// Fails the n-th call of its kind from the beginning of a step on: two lives do not make quite as
// many calls up to there.
class LifePlan final : public sys::FaultPlan {
 public:
  LifePlan(Kind kind, Step step, uint64_t n, int error)
      : FaultPlan(sys::Call::kAny, n, error), kind_(kind), step_(step) {}
  std::optional<int> on_call(sys::Call call) override {
    for (const Kind kind : {Kind::kOther, Kind::kIoctl, Kind::kTransfer}) {
      counts_[static_cast<size_t>(kind)] += is_of(kind, call) ? 1 : 0;
    }
    return in_step_ && is_of(kind_, call) ? FaultPlan::on_call(call) : std::nullopt;
  }
  void begin(size_t step) { in_step_ = in_step_ || step == step_; }
  uint64_t count(Kind kind) const { return counts_[static_cast<size_t>(kind)]; }

 private:
  const Kind kind_;
  const Step step_;
  std::atomic<bool> in_step_{false};
  std::array<std::atomic<uint64_t>, 3> counts_ = {};
};

// `done` is called after each step.
absl::Status live(const std::string& directory, const std::function<void(Step)>& done) {
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
  done(kBuild);
  if (const absl::Status saved = built->save(directory); !saved.ok()) {
    return saved;
  }
  done(kSave);
  const auto loaded = sandbox::Template::load(directory, {.engine = *engine});
  if (!loaded.ok()) {
    return loaded.status();
  }
  done(kLoad);
  auto box = sandbox::fork(*loaded, {.ready_timeout = std::chrono::seconds(20)});
  if (!box.ok()) {
    return box.status();
  }
  done(kFork);
  const auto result =
      box->exec({"sh", "-c", "cat >/root/f; sync; cat /root/f"},
                {.stdin_data = std::string(100'000, 'x'), .timeout = std::chrono::seconds(20)});
  if (!result.ok()) {
    return result.status();
  }
  done(kExec);
  box->kill();
  const absl::Status gone = box->wait_gone(std::chrono::seconds(60));
  done(kKill);
  return gone;
}

// Calls of each kind up to the end of each step.
using Marks = std::array<std::array<uint64_t, kSteps>, 3>;

// True: something failed. `marks` may be null.
bool live_with(Kind kind, Step step, uint64_t n, int error, Marks* marks) {
  // Kept to the end: threads of the library may still be looking at one that was disarmed.
  static std::deque<LifePlan> plans;
  const std::string folder = temp_root() + "/fault-life";
  fs::remove_all(folder);
  fs::create_directory(folder);
  const ProcessCounts before = quiet_process();
  const auto start = Clock::now();
  LifePlan& plan = plans.emplace_back(kind, step, n, error);
  plan.begin(kBuild);
  plan.arm();
  const absl::Status status = live(folder + "/t", [&](Step ended) {
    plan.begin(ended + 1);
    for (const Kind each : {Kind::kOther, Kind::kIoctl, Kind::kTransfer}) {
      if (marks != nullptr) {
        (*marks)[static_cast<size_t>(each)][ended] = plan.count(each);
      }
    }
  });
  plan.disarm();
  const auto took = Clock::now() - start;
  const ProcessCounts after = settled_process(before);
  const std::string what = "kind " + std::to_string(static_cast<int>(kind)) + " step " +
                           std::to_string(step) + " call " + std::to_string(n) + ", errno " +
                           std::to_string(error) + " (-1: cut short)";
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
  return plan.fired();
}

// Of a life in which nothing fails.
const Marks& marks() {
  static const Marks kMarks = [] {
    Marks found = {};
    live_with(Kind::kOther, kBuild, kNever, EIO, &found);
    return found;
  }();
  return kMarks;
}

// Fails so many calls of this kind in each of these steps, evenly spread, all where there are
// fewer.
void sweep(Kind kind, std::initializer_list<Step> steps, uint64_t each, bool cut_short) {
  constexpr std::array<int, 4> kErrors = {EIO, ENOMEM, EMFILE, ENOSPC};
  uint64_t fired = 0;
  uint64_t lives = 0;
  for (const Step step : steps) {
    const auto& ends = marks()[static_cast<size_t>(kind)];
    const uint64_t first = step == kBuild ? 0 : ends[step - 1];
    if (ends[step] == first) {
      continue;  // a kill makes none but ioctls
    }
    const uint64_t calls = ends[step] - first;
    const uint64_t stride = std::max<uint64_t>(1, calls / each);
    for (uint64_t n = 1 + stride / 2; n <= calls; n += stride) {
      const int error = cut_short ? sys::kShortTransfer : kErrors[lives++ % kErrors.size()];
      fired += live_with(kind, step, n, error, nullptr) ? 1 : 0;
    }
  }
  CHECK(fired >= steps.size() - 1);
}

}  // namespace

TEST_CASE("whichever system call fails in a whole life, it is a Status and nothing is left") {
  RAMET_NEED_GUEST();
  sweep(Kind::kOther, {kBuild, kSave, kLoad, kFork, kExec, kKill}, long_run() ? kNever : 1, false);
}

TEST_CASE("whichever ioctl fails in a whole life, it is a Status and nothing is left") {
  RAMET_NEED_GUEST();
  sweep(Kind::kIoctl, {kBuild, kFork, kExec}, long_run() ? 20 : 1, false);
}

TEST_CASE("whichever transfer is cut short in a whole life, it goes on, to the end") {
  RAMET_NEED_GUEST();
  sweep(Kind::kTransfer, {kBuild, kSave, kLoad}, long_run() ? 20 : 1, true);
}
