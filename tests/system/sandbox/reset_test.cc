// Reset, forks from machines made ahead, and many forks at once, of a Debian guest with two vCPUs.
#include <chrono>
#include <future>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/support/place.h"
#include "tests/support/skip.h"
#include "tests/system/sandbox/guest_template.h"

namespace {

using ramet::testing::isolated;
using ramet::testing::settled_process;
using ramet::testing::shell;

constexpr char kIdentity[] =
    "cat /proc/sys/kernel/random/uuid; hostname; cat /etc/machine-id; head -c 16 /dev/urandom | "
    "od -An -tx1";

const absl::StatusOr<sandbox::Template>& two_vcpus() {
  static const absl::StatusOr<sandbox::Template> kTemplate = [] {
    sandbox::TemplateOptions options = ramet::testing::small_guest("cloud-6.12");
    options.vcpus = 2;
    return sandbox::Template::build(options);
  }();
  return kTemplate;
}

absl::StatusOr<sandbox::Sandbox> fork_two(sandbox::ForkOptions options = {}) {
  RAMET_REQUIRE_OK(two_vcpus());
  return sandbox::fork(*two_vcpus(), isolated(std::move(options)));
}

// What a command printed; what went wrong where it did not end well.
std::string output(sandbox::Sandbox& box, const std::string& script) {
  const auto result = shell(box, script);
  return result.ok() ? result->stdout_data + result->stderr_data
                     : std::string(result.status().ToString());
}

void add_lines(std::string text, std::set<std::string>* lines) {
  for (size_t end; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1)) {
    lines->insert(text.substr(0, end));
  }
}

}  // namespace

TEST_CASE("after a reset no file, no process and no memory of before is there, and no identity") {
  RAMET_NEED_GUEST();
  auto box = fork_two();
  RAMET_REQUIRE_OK(box);
  std::set<std::string> identities;
  add_lines(output(*box, kIdentity), &identities);
  constexpr int kResets = 4;
  for (int i = 0; i < kResets; ++i) {
    const std::string mark = "mark-" + std::to_string(i);
    REQUIRE(output(*box, "echo " + mark + " >/root/file; echo " + mark + " >/dev/shm/m; sync; " +
                             "(exec -a " + mark + " sleep 1000 >/dev/null 2>&1 &) ; echo done") ==
            "done\n");
    RAMET_REQUIRE_OK(box->reset());
    CHECK(box->state() == sandbox::State::kRunning);
    CHECK(output(*box,
                 "cat /root/file /dev/shm/m 2>/dev/null; ps ax 2>/dev/null | grep -c [m]ark; "
                 "grep -c processor /proc/cpuinfo") == "0\n2\n");
    add_lines(output(*box, kIdentity), &identities);
  }
  // Four lines each time.
  CHECK(identities.size() == 4 * (kResets + 1));
  CHECK(identities.contains(box->hostname()));
}

TEST_CASE(
    "a sandbox whose vCPUs are both busy, whose disk is written and whose agent talks resets") {
  RAMET_NEED_GUEST();
  auto box = fork_two();
  RAMET_REQUIRE_OK(box);
  for (const char* script : {"while :; do :; done & while :; do :; done",
                             "cat /dev/zero >/root/fill", "yes", "sleep 1000"}) {
    auto running = std::async(std::launch::async, [&] {
      return box->exec({"sh", "-c", script}, {.timeout = std::chrono::seconds(300)});
    });
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    RAMET_REQUIRE_OK(box->reset());
    const auto ended = running.get();
    INFO(script << ": " << ended.status().ToString());
    CHECK(absl::IsCancelled(ended.status()));
    CHECK(sandbox::reason_of(ended.status()) == sandbox::Reason::kReset);
    CHECK(output(*box, "echo well") == "well\n");
  }
}

TEST_CASE("a paused sandbox resets, a killed one does not") {
  RAMET_NEED_GUEST();
  auto box = fork_two();
  RAMET_REQUIRE_OK(box);
  RAMET_REQUIRE_OK(box->pause());
  RAMET_REQUIRE_OK(box->reset({.hostname = "again"}));
  CHECK(output(*box, "hostname") == "again\n");
  box->kill();
  CHECK(sandbox::reason_of(box->reset()) == sandbox::Reason::kKilled);
}

TEST_CASE("resets in a row leave nothing behind, in the guest or here") {
  RAMET_NEED_GUEST();
  auto box = fork_two();
  RAMET_REQUIRE_OK(box);
  RAMET_REQUIRE_OK(box->reset());
  const auto before = ramet::testing::quiet_process();
  const int resets = ramet::testing::long_run() ? 500 : 10;
  for (int i = 0; i < resets; ++i) {
    REQUIRE(output(*box, "ls /root/f* 2>/dev/null; echo " + std::to_string(i) + " | tee /root/f" +
                             std::to_string(i)) == std::to_string(i) + "\n");
    RAMET_REQUIRE_OK(box->reset());
  }
  const auto after = settled_process(before);
  CHECK(after.fds <= before.fds);
  CHECK(after.threads <= before.threads);
}

TEST_CASE("forks from machines made ahead answer as others do, each with its own randomness") {
  RAMET_NEED_GUEST();
  std::set<std::string> lines;
  constexpr size_t kForks = 4;
  for (size_t i = 0; i < kForks; ++i) {
    auto box = fork_two({.shell = i == 0 ? sandbox::ShellUse::kNone : sandbox::ShellUse::kWait});
    RAMET_REQUIRE_OK(box);
    add_lines(output(*box, kIdentity), &lines);
    const auto metrics = box->metrics();
    REQUIRE(metrics.memory);
    CHECK(metrics.memory->private_bytes != 0);
    CHECK(metrics.memory->shared_bytes != 0);
  }
  CHECK(lines.size() == 4 * kForks);
}

TEST_CASE("many forks at once each run a command, and a sandbox can be reset among them") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(two_vcpus());
  auto boxes = sandbox::fork_many(*two_vcpus(), 6, {.fork = isolated()});
  REQUIRE(boxes.size() == 6);
  std::set<std::string> names;
  for (auto& box : boxes) {
    RAMET_REQUIRE_OK(box);
    CHECK(output(*box, "echo here") == "here\n");
    names.insert(box->hostname());
  }
  CHECK(names.size() == 6);
  RAMET_REQUIRE_OK(boxes[3]->reset());
  CHECK(output(*boxes[3], "echo here") == "here\n");
  CHECK(output(*boxes[4], "echo here") == "here\n");
}
