// Ends: kill in the middle of a command, guests that die or hang; each with its reason and nothing
// leaked.
#include <chrono>
#include <future>
#include <string>
#include <thread>

#include <catch2/catch.hpp>

#include "tests/support/place.h"
#include "tests/support/skip.h"
#include "tests/system/sandbox/guest_template.h"

namespace {

using ramet::testing::fork_shared;
using ramet::testing::quiet_process;
using ramet::testing::settled_process;
using ramet::testing::shared_template;
using ramet::testing::shell;

constexpr std::chrono::seconds kTeardown(30);

void kill_in_the_middle() {
  auto box = fork_shared();
  RAMET_REQUIRE_OK(box);
  auto running = std::async(std::launch::async, [&] { return shell(*box, "sleep 1000"); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  box->kill();
  const auto result = running.get();
  CHECK(result.status().code() == absl::StatusCode::kCancelled);
  CHECK(sandbox::reason_of(result.status()) == sandbox::Reason::kKilled);
  RAMET_REQUIRE_OK(box->wait_gone(kTeardown));
  CHECK(box->state() == sandbox::State::kGone);
}

}  // namespace

TEST_CASE("fifty forks killed in the middle of a command leave no descriptor, thread or mapping") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  kill_in_the_middle();  // what is made once and kept is made here
  const auto before = quiet_process();
  for (int i = 0; i < 50; ++i) {
    kill_in_the_middle();
  }
  const auto after = settled_process(before);
  // Threads are kept for the next vCPUs, each with its filter's listener, so many at most.
  const uint32_t kept = sandbox::EngineOptions().idle_threads;
  CHECK(after.fds <= before.fds + kept);
  CHECK(after.threads <= before.threads + kept);
  CHECK(after.mappings <= before.mappings + 8);  // the C library's arenas
}

TEST_CASE("a guest that powers off in a command ends it with a reason") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  auto box = fork_shared();
  RAMET_REQUIRE_OK(box);
  const auto result =
      shell(*box, "mount -t proc p /proc 2>/dev/null; echo o >/proc/sysrq-trigger; sleep 60");
  REQUIRE(!result.ok());
  INFO(result.status());
  CHECK(sandbox::reason_of(result.status()) == sandbox::Reason::kGuestDied);
  CHECK(box->state() == sandbox::State::kGone);
  RAMET_REQUIRE_OK(box->wait_gone(kTeardown));
}

TEST_CASE("a guest whose kernel panics in a command ends it with a reason") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  auto box = fork_shared();
  RAMET_REQUIRE_OK(box);
  const auto result = shell(*box, "echo c >/proc/sysrq-trigger; sleep 60");
  REQUIRE(!result.ok());
  INFO(result.status());
  CHECK(sandbox::reason_of(result.status()) == sandbox::Reason::kGuestDied);
}

TEST_CASE("a guest that stands still during a command is found out by the timeout and poisoned") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  auto box = fork_shared();
  RAMET_REQUIRE_OK(box);
  auto running = std::async(std::launch::async, [&] {
    return box->exec({"sleep", "1000"}, {.timeout = std::chrono::seconds(1)});
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  // Nothing in the guest runs any more: to the host it hangs.
  RAMET_REQUIRE_OK(box->pause());
  const auto result = running.get();
  REQUIRE(!result.ok());
  INFO(result.status());
  CHECK(sandbox::reason_of(result.status()) == sandbox::Reason::kGuestHung);
  CHECK(box->state() == sandbox::State::kPoisoned);
  CHECK(!box->exec({"true"}).ok());
  CHECK(!box->resume().ok());
  box->kill();
  RAMET_REQUIRE_OK(box->wait_gone(kTeardown));
  CHECK(box->state() == sandbox::State::kGone);
}

TEST_CASE("a killed sandbox answers every later call with why") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  auto box = fork_shared();
  RAMET_REQUIRE_OK(box);
  box->kill();
  box->kill();
  CHECK(sandbox::reason_of(box->exec({"true"}).status()) == sandbox::Reason::kKilled);
  CHECK(sandbox::reason_of(box->pause()) == sandbox::Reason::kKilled);
  CHECK(sandbox::reason_of(box->end_reason()) == sandbox::Reason::kKilled);
}
