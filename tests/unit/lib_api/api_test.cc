// The thin layer: users, reasons, durations, and what is said without KVM.
#include <limits>
#include <set>

#include <catch2/catch.hpp>

#include <ramet/engine.h>
#include <ramet/host.h>
#include <ramet/reason.h>

#include "lib/api/deadline.h"
#include "lib/api/exec_request.h"
#include "lib/api/limits.h"
#include "lib/instance/reasons.h"

using namespace sandbox;
using ramet::wire::User;

TEST_CASE("an empty user is root, a name is a name, numbers are ids") {
  CHECK(parse_user("")->kind == User{}.kind);
  for (const std::string name : {"www-data", "a", "1a", "-1", "+1", " 1", "0x10", ":5", "root:0"}) {
    const auto user = parse_user(name);
    REQUIRE(user.ok());
    CHECK(user->kind == User::Kind::kName);
    CHECK(user->name == name);
  }
  const auto one = parse_user("1000");
  REQUIRE(one.ok());
  CHECK(one->kind == User::Kind::kIds);
  CHECK(one->uid == 1000);
  CHECK(one->gid == 1000);
  const auto two = parse_user("0:4294967295");
  REQUIRE(two.ok());
  CHECK(two->uid == 0);
  CHECK(two->gid == 4294967295U);
}

TEST_CASE("ids that are none or do not fit 32 bits are refused") {
  for (const std::string bad : {"4294967296", "1:4294967296", "1:", "1:x", "1:2:3", "1: 2", "1:-2",
                                "1:+2", "99999999999999999999999999"}) {
    const auto user = parse_user(bad);
    INFO(bad);
    CHECK(user.status().code() == absl::StatusCode::kInvalidArgument);
    CHECK(std::string(user.status().message()).find(bad) != std::string::npos);
  }
}

TEST_CASE("every reason has a name of its own, and comes back from a status") {
  std::set<std::string_view> names;
  for (int i = 0; i <= static_cast<int>(Reason::kHostBusy); ++i) {
    const auto reason = static_cast<Reason>(i);
    const std::string_view name = reason_name(reason);
    names.insert(name);
    const auto status = ramet::with_reason(absl::InternalError("x"), name);
    CHECK(reason_of(status) == reason);
  }
  CHECK(names.size() == static_cast<size_t>(Reason::kHostBusy) + 1);
  CHECK(reason_of(absl::OkStatus()) == Reason::kNone);
  CHECK(reason_of(absl::InternalError("x")) == Reason::kNone);
  CHECK(reason_of(ramet::with_reason(absl::InternalError("x"), "unheard_of")) == Reason::kNone);
  CHECK(reason_name(static_cast<Reason>(200)) == "none");
}

TEST_CASE("a duration that is not positive is over, and one beyond the clock never comes") {
  using std::chrono::nanoseconds;
  CHECK(nanoseconds_of(nanoseconds(-1)) == 0);
  CHECK(nanoseconds_of(nanoseconds::min()) == 0);
  CHECK(nanoseconds_of(nanoseconds(7)) == 7);
  const uint64_t now = ramet::monotonic_ns();
  CHECK(deadline_after(nanoseconds(0)) >= now);
  const uint64_t over = deadline_after(nanoseconds(-5));
  CHECK(over <= ramet::monotonic_ns());
  CHECK(deadline_after(std::chrono::hours(1)) >= now + 3'600'000'000'000);
  CHECK(deadline_after(nanoseconds::max()) == std::numeric_limits<int64_t>::max());
  CHECK(deadline_after(nanoseconds::max() - nanoseconds(1)) == std::numeric_limits<int64_t>::max());
}

TEST_CASE("a command's outcome is told as a shell would tell it") {
  ramet::ExecOutcome outcome;
  outcome.exit_code = 3;
  outcome.stdout_data = "out";
  outcome.stderr_truncated = true;
  ExecResult result = to_public(outcome);
  CHECK(result.exit_code == 3);
  CHECK(result.signal == 0);
  CHECK(result.stdout_data == "out");
  CHECK(result.stderr_truncated);
  CHECK_FALSE(result.ok());
  outcome.kind = ramet::ExecOutcome::Kind::kSignalled;
  outcome.signal = 9;
  outcome.timed_out = true;
  result = to_public(outcome);
  CHECK(result.exit_code == 137);
  CHECK(result.signal == 9);
  CHECK(result.timed_out);
}

TEST_CASE("a request takes its defaults, and sinks and input only where they are given") {
  ExecOptions options;
  const auto plain = ExecRequest::create(nullptr, {"true"}, options);
  REQUIRE(plain.ok());
  CHECK((*plain)->spec().stdin_source == nullptr);
  CHECK_FALSE((*plain)->spec().stdout_sink);
  CHECK((*plain)->spec().timeout_ns == 60'000'000'000);
  CHECK_FALSE((*plain)->spec().env.empty());
  options.env.emplace();
  options.timeout = {};
  options.stdin_data = "in";
  options.on_stdout = [](std::string_view) {};
  const auto full = ExecRequest::create(nullptr, {"cat"}, options);
  REQUIRE(full.ok());
  CHECK((*full)->spec().stdin_source != nullptr);
  CHECK((*full)->spec().stdout_sink);
  CHECK_FALSE((*full)->spec().stderr_sink);
  CHECK((*full)->spec().timeout_ns == 0);
  CHECK((*full)->spec().env.empty());
  options.user = "1:x";
  CHECK_FALSE(ExecRequest::create(nullptr, {"cat"}, options).ok());
}

TEST_CASE("limits are taken over in nanoseconds and bytes, and the defaults slow storms only") {
  using namespace std::chrono_literals;
  const auto plain = to_internal(Limits{});
  REQUIRE(plain.ok());
  CHECK_FALSE(plain->watched());
  CHECK(plain->disk_bytes == 0);
  CHECK(plain->rates.exits == ramet::RateLimit{.per_second = 200'000});
  CHECK(plain->rates.interrupts == ramet::RateLimit{.per_second = 100'000});
  const auto all =
      to_internal(Limits{.wall_clock = 30s,
                         .cpu_time = 2s,
                         .cpu_milliseconds = {.per_second = 500, .action = LimitAction::kEnd},
                         .private_memory_bytes = 5,
                         .disk_bytes = 6,
                         .disk_action = LimitAction::kRefuse,
                         .exits = {},
                         .interrupts = {.per_second = 7, .action = LimitAction::kEnd},
                         .connections = 8});
  REQUIRE(all.ok());
  CHECK(*all == ramet::InstanceLimits{.wall_ns = 30'000'000'000,
                                      .cpu_ns = 2'000'000'000,
                                      .private_bytes = 5,
                                      .disk_bytes = 6,
                                      .disk_full_ends = false,
                                      .connections = 8,
                                      .rates = {.interrupts = {.per_second = 7, .ends = true},
                                                .cpu = {.per_second = 500'000'000, .ends = true}}});
  const auto vast = to_internal(Limits{.wall_clock = std::chrono::milliseconds::max(),
                                       .cpu_milliseconds = {.per_second = UINT64_MAX}});
  REQUIRE(vast.ok());
  CHECK(vast->wall_ns > uint64_t{1} << 62);
  CHECK(vast->rates.cpu.per_second == UINT64_MAX);
}

TEST_CASE("a limit that is negative, or whose action does not go with it, is refused by name") {
  const auto message = [](const Limits& limits) {
    const auto result = to_internal(limits);
    CHECK(result.status().code() == absl::StatusCode::kInvalidArgument);
    return std::string(result.status().message());
  };
  CHECK(message({.wall_clock = std::chrono::milliseconds(-1)}) ==
        "limit wall_clock: -1 ms is negative");
  CHECK(message({.cpu_time = std::chrono::milliseconds::min()}).find("cpu_time") !=
        std::string::npos);
  CHECK(message({.exits = {.action = LimitAction::kRefuse}}).find("exits") != std::string::npos);
  CHECK(message({.disk_action = LimitAction::kThrottle}).find("disk") != std::string::npos);
}

TEST_CASE("every limit has a name of its own, and hits come back from a status") {
  std::set<std::string_view> names;
  for (const ramet::LimitKind kind : ramet::kLimitKinds) {
    const auto hit = limit_of(ramet::limit_status({kind, 1, 2}));
    REQUIRE(hit.has_value());
    CHECK(to_internal(hit->which) == kind);
    CHECK(hit->allowed == 1);
    CHECK(hit->used == 2);
    names.insert(limit_name(hit->which));
  }
  CHECK(names.size() == ramet::kLimitKinds.size());
  CHECK(limit_name(static_cast<Limit>(200)) == "unknown");
  CHECK(retry_after(ramet::busy_status("x", 1'500)) == std::chrono::milliseconds(1'500));
  CHECK_FALSE(retry_after(absl::InternalError("x")).has_value());
}

TEST_CASE("a command that was killed for its output says so with the figures, and is not ok") {
  ramet::ExecOutcome outcome;
  outcome.output_limited = true;
  outcome.output_bytes = 300;
  const ExecResult result = to_public(outcome, 200);
  REQUIRE(result.limit_hit.has_value());
  CHECK(result.limit_hit->which == Limit::kOutput);
  CHECK(result.limit_hit->allowed == 200);
  CHECK(result.limit_hit->used == 300);
  CHECK_FALSE(result.ok());
  CHECK_FALSE(to_public(ramet::ExecOutcome{}, 200).limit_hit.has_value());
}

TEST_CASE("a host without KVM gets a report that says so, and an engine a reason") {
  const HostReport report = inspect_host("/no/such/kvm");
  CHECK(report.kvm == KvmKind::kNone);
  CHECK_FALSE(report.usable());
  REQUIRE_FALSE(report.findings.empty());
  CHECK(report.findings[0].level == Finding::Level::kProblem);
  CHECK_FALSE(report.findings[0].advice.empty());
  CHECK_FALSE(report.ramet_version.empty());
  const auto engine = Engine::create({.kvm_device = "/no/such/kvm"});
  CHECK(reason_of(engine.status()) == Reason::kKvmMissing);
}

TEST_CASE("a report on a directory that is no control group says what to name instead") {
  const HostReport report = inspect_host("/no/such/kvm", "/usr");
  const auto& found = report.findings.back();
  INFO(found.what);
  CHECK(found.level == Finding::Level::kProblem);
  CHECK(found.what.find("no control groups for helper processes") == 0);
  CHECK(found.advice.find("cgroup2") != std::string::npos);
}
