// Limits of real sandboxes: a memory bomb, a disk filler, a flood of output, a loop, a long sleep.
// Each ends with the limit and its figures; what is busy and well-behaved meets none.
#include <chrono>
#include <cstdio>
#include <future>
#include <string>
#include <thread>

#include <catch2/catch.hpp>

#include <ramet/engine.h>

#include "tests/support/place.h"
#include "tests/support/skip.h"
#include "tests/support/temp_dir.h"
#include "tests/system/sandbox/guest_template.h"

namespace {

using namespace std::chrono_literals;
using ramet::testing::fork_shared;
using ramet::testing::shared_template;
using ramet::testing::shell;
using sandbox::Limit;

constexpr uint64_t kMiB = 1 << 20;
const sandbox::ExecOptions kPatient = {.timeout = 200s};

sandbox::Sandbox fork_with(const sandbox::Limits& limits) {
  auto box = fork_shared({.limits = limits});
  RAMET_REQUIRE_OK(box);
  return *std::move(box);
}

std::vector<std::string> script(const std::string& text) { return {"sh", "-c", text}; }

void print(const sandbox::LimitHit& hit) {
  std::printf("%s: %llu allowed, %llu used\n", std::string(sandbox::limit_name(hit.which)).c_str(),
              static_cast<unsigned long long>(hit.allowed),
              static_cast<unsigned long long>(hit.used));
}

// `argv` ends the sandbox by this limit; what the command, the sandbox and a later call say.
sandbox::LimitHit hit_by(sandbox::Sandbox& box, const std::vector<std::string>& argv, Limit limit) {
  const auto result = box.exec(argv, kPatient);
  INFO(result.status());
  INFO(box.metrics().cpu_time.count() << " ns of processors; the command: "
                                      << (result.ok() ? result->stdout_data + result->stderr_data +
                                                            std::to_string(result->exit_code)
                                                      : ""));
  REQUIRE_FALSE(result.ok());
  CHECK(result.status().code() == absl::StatusCode::kResourceExhausted);
  const auto why = limit == Limit::kPrivateMemory ? sandbox::Reason::kOutOfMemory
                                                  : sandbox::Reason::kLimitReached;
  CHECK(sandbox::reason_of(result.status()) == why);
  const auto hit = sandbox::limit_of(result.status());
  REQUIRE(hit.has_value());
  print(*hit);
  CHECK(hit->which == limit);
  CHECK(hit->used > hit->allowed);
  CHECK(box.state() == sandbox::State::kGone);
  REQUIRE(box.limit_hit().has_value());
  CHECK(box.limit_hit()->used == hit->used);
  CHECK(sandbox::reason_of(box.exec({"true"}).status()) == why);
  RAMET_REQUIRE_OK(box.wait_gone(30s));
  return *hit;
}

}  // namespace

TEST_CASE("a memory bomb ends its sandbox at the limit of private memory") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  auto box = fork_with({.private_memory_bytes = 40 * kMiB});
  auto other = fork_with({.private_memory_bytes = 40 * kMiB});
  const auto small = shell(other, "python3 -c 'print(len(bytearray(4 << 20)))'");
  RAMET_REQUIRE_OK(small);
  CHECK(small->stdout_data == "4194304\n");
  const auto hit = hit_by(box, {"python3", "-c", "a = []\nwhile True: a.append(b'x' * (1 << 20))"},
                          Limit::kPrivateMemory);
  CHECK(hit.allowed == 40 * kMiB);
  CHECK(hit.used < 64 * kMiB);
  const auto still = shell(other, "echo here");
  RAMET_REQUIRE_OK(still);
  CHECK(still->stdout_data == "here\n");
}

TEST_CASE("a disk filler ends its sandbox, or gets errors and lives, as asked") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  const std::string fill = "dd if=/dev/urandom of=/filler bs=65536 count=400; sync";
  {
    auto box = fork_with({.disk_bytes = 8 * kMiB});
    const auto small = shell(box, "dd if=/dev/urandom of=/small bs=65536 count=16; sync");
    RAMET_REQUIRE_OK(small);
    CHECK(small->exit_code == 0);
    const auto hit = hit_by(box, script(fill), Limit::kDisk);
    CHECK(hit.allowed == 8 * kMiB);
    CHECK(hit.used <= 8 * kMiB + 4 * kMiB);
  }
  auto box = fork_with({.disk_bytes = 8 * kMiB, .disk_action = sandbox::LimitAction::kRefuse});
  // Past the file system: what the disk itself says.
  const auto result =
      box.exec(script("dd if=/dev/zero bs=65536 count=1 of=/dev/null; "
                      "dd if=/dev/urandom of=/dev/vdb bs=65536 seek=512 count=400 oflag=direct"),
               kPatient);
  RAMET_REQUIRE_OK(result);
  INFO(result->stderr_data);
  CHECK(result->exit_code != 0);
  CHECK(box.state() == sandbox::State::kRunning);
  CHECK(box.metrics().private_disk_bytes <= 8 * kMiB);
  CHECK_FALSE(box.limit_hit());
}

TEST_CASE("a flood of output is cut at its limit and the command killed; the sandbox lives") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  auto box = fork_with({.output_bytes = 100'000});
  const auto flood = box.exec(script("yes & yes error >&2"), kPatient);
  RAMET_REQUIRE_OK(flood);
  CHECK(flood->signal == 9);
  CHECK_FALSE(flood->timed_out);
  CHECK_FALSE(flood->ok());
  REQUIRE(flood->limit_hit.has_value());
  print(*flood->limit_hit);
  CHECK(flood->limit_hit->which == Limit::kOutput);
  CHECK(flood->limit_hit->allowed == 100'000);
  CHECK(flood->limit_hit->used > 100'000);
  CHECK(flood->stdout_data.size() + flood->stderr_data.size() == 100'000);
  const auto exact = shell(box, "head -c 100000 /dev/zero");
  RAMET_REQUIRE_OK(exact);
  CHECK(exact->ok());
  CHECK(exact->stdout_data.size() == 100'000);
}

TEST_CASE("a disk is held to its rate while the guest goes on, or ends its sandbox, as asked") {
  RAMET_NEED_GUEST();
  // dd by blocks, so that the guest's own cache does not take it.
  const std::string write = "dd if=/dev/zero of=/dev/vdb bs=1M count=24 oflag=direct 2>&1";
  auto held = fork_with({.disk_rate = {.per_second = 8 * kMiB}});
  const auto start = std::chrono::steady_clock::now();
  const auto result = held.exec(script(write), kPatient);
  const auto took = std::chrono::steady_clock::now() - start;
  RAMET_REQUIRE_OK(result);
  INFO(result->stdout_data);
  CHECK(result->exit_code == 0);
  // The last request is waited for by nobody, and a tenth of a second's may come at once.
  CHECK(took > 2500ms);
  CHECK(held.metrics().throttled > 0);
  CHECK(held.metrics().disk_bytes_written >= 24 * kMiB);

  auto ended =
      fork_with({.disk_rate = {.per_second = 2 * kMiB, .action = sandbox::LimitAction::kEnd}});
  hit_by(ended, script(write), Limit::kDiskRate);
}

TEST_CASE("a sandbox ends at its wall clock, in a command and between commands") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  {
    auto box = fork_with({.wall_clock = 20s});
    const auto hit = hit_by(box, {"sleep", "1000"}, Limit::kWallClock);
    CHECK(hit.allowed == 20'000'000'000);
    CHECK(hit.used < 22'000'000'000);
  }
  auto box = fork_with({.wall_clock = 20s});
  const auto deadline = std::chrono::steady_clock::now() + 60s;
  while (box.state() == sandbox::State::kRunning && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(20ms);
  }
  CHECK(box.state() == sandbox::State::kGone);
  CHECK(sandbox::reason_of(box.end_reason()) == sandbox::Reason::kLimitReached);
}

TEST_CASE("a fork that is not ready at its wall clock fails with the limit") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  const auto box = fork_shared({.limits = {.wall_clock = 1ms}});
  INFO(box.status());
  CHECK(sandbox::reason_of(box.status()) == sandbox::Reason::kLimitReached);
}

TEST_CASE("a loop ends its sandbox at its processor time; sleeping uses none") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  auto box = fork_with({.cpu_time = 8s});
  RAMET_REQUIRE_OK(box.exec({"sleep", "3"}, kPatient));
  const auto hit = hit_by(box, script("while :; do :; done"), Limit::kCpuTime);
  CHECK(hit.used < 9'000'000'000);
  CHECK(box.metrics().cpu_time >= 8s);
}

TEST_CASE("a command beyond the connections of its sandbox is refused, and the sandbox lives") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  auto box = fork_with({.connections = 1});
  auto first = std::async(std::launch::async,
                          [&] { return box.exec(script("echo begun; sleep 8"), kPatient); });
  std::this_thread::sleep_for(2s);
  const auto second = box.exec({"true"}, kPatient);
  INFO(second.status());
  CHECK(sandbox::reason_of(second.status()) == sandbox::Reason::kLimitReached);
  const auto hit = sandbox::limit_of(second.status());
  REQUIRE(hit.has_value());
  CHECK(hit->which == Limit::kConnections);
  CHECK(hit->allowed == 1);
  RAMET_REQUIRE_OK(first.get());
  CHECK(box.state() == sandbox::State::kRunning);
  RAMET_REQUIRE_OK(box.exec({"true"}, kPatient));
}

TEST_CASE("limits that make no sense are refused before anything is made") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  for (const sandbox::Limits& limits :
       {sandbox::Limits{.wall_clock = -1ms}, sandbox::Limits{.cpu_time = -1s},
        sandbox::Limits{.disk_action = sandbox::LimitAction::kThrottle},
        sandbox::Limits{.exits = {.per_second = 1, .action = sandbox::LimitAction::kRefuse}}}) {
    CHECK(fork_shared({.limits = limits}).status().code() == absl::StatusCode::kInvalidArgument);
  }
}

TEST_CASE(
    "an engine that wants all memory to be available refuses forks and builds, and says when") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  const ramet::testing::TempDir folder;
  RAMET_REQUIRE_OK(shared_template()->save(folder.path() + "/t"));
  auto engine = sandbox::Engine::create({.scratch_directory = ramet::testing::temp_root(),
                                         .pressure = {.min_available_percent = 100}});
  RAMET_REQUIRE_OK(engine);
  const auto loaded = sandbox::Template::load(folder.path() + "/t", {.engine = *engine});
  RAMET_REQUIRE_OK(loaded);
  const auto start = std::chrono::steady_clock::now();
  const auto box = sandbox::fork(*loaded, {.ready_timeout = 1s});
  CHECK(std::chrono::steady_clock::now() - start >= 1s);
  INFO(box.status());
  CHECK(box.status().code() == absl::StatusCode::kResourceExhausted);
  CHECK(sandbox::reason_of(box.status()) == sandbox::Reason::kHostBusy);
  REQUIRE(sandbox::retry_after(box.status()).has_value());
  CHECK(*sandbox::retry_after(box.status()) >= 1s);
  sandbox::TemplateOptions another = ramet::testing::small_guest("cloud-6.12");
  another.engine = *engine;
  another.boot_timeout = 100ms;
  const auto built = sandbox::Template::build(another);
  INFO(built.status());
  CHECK(sandbox::reason_of(built.status()) == sandbox::Reason::kHostBusy);
  CHECK(sandbox::retry_after(built.status()).has_value());
}

TEST_CASE("a busy guest under the default limits is never made to wait") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  auto box = fork_with({});
  const sandbox::Metrics before = box.metrics();
  const auto start = std::chrono::steady_clock::now();
  const auto work =
      box.exec(script("dd if=/dev/urandom of=/f bs=4096 count=1000 conv=fsync; cat /f | wc -c; "
                      "python3 -c 'import json, zlib; print(len(zlib.compress(bytes(1 << 20))))'; "
                      "head -c 2000000 /dev/zero; ls -lR /usr/lib | head -c 200000"),
               kPatient);
  RAMET_REQUIRE_OK(work);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const sandbox::Metrics after = box.metrics();
  CHECK(after.throttled == 0);
  CHECK(after.vcpu_exits > before.vcpu_exits);
  CHECK(after.interrupts > before.interrupts);
  std::printf("busy guest: %.0f exits/s, %.0f interrupts/s, %.1f s of processor in %.1f s\n",
              static_cast<double>(after.vcpu_exits - before.vcpu_exits) / seconds,
              static_cast<double>(after.interrupts - before.interrupts) / seconds,
              std::chrono::duration<double>(after.cpu_time - before.cpu_time).count(), seconds);
}
