// Forks: answering, isolated from each other and from their template, each with randomness and
// identity of its own.
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

using ramet::testing::fork_shared;
using ramet::testing::shared_template;
using ramet::testing::shell;

constexpr char kReadEverything[] =
    "cat /proc/sys/kernel/random/uuid; hostname; cat /etc/machine-id; head -c 16 /dev/urandom | "
    "od -An -tx1";

}  // namespace

TEST_CASE("ten forks run a command at once, and each gives its own answer") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  std::vector<sandbox::Sandbox> boxes;
  for (int i = 0; i < 10; ++i) {
    auto box = fork_shared();
    RAMET_REQUIRE_OK(box);
    boxes.push_back(std::move(*box));
  }
  std::vector<std::future<absl::StatusOr<sandbox::ExecResult>>> results;
  for (int i = 0; i < 10; ++i) {
    results.push_back(std::async(std::launch::async, [&boxes, i] {
      return shell(boxes[static_cast<size_t>(i)], "echo $((" + std::to_string(i) + " * 7))");
    }));
  }
  for (int i = 0; i < 10; ++i) {
    const auto result = results[static_cast<size_t>(i)].get();
    RAMET_REQUIRE_OK(result);
    CHECK(result->stdout_data == std::to_string(i * 7) + "\n");
  }
}

TEST_CASE("no two forks share random bytes, host name or machine id") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  std::set<std::string> lines;
  size_t total = 0;
  for (int i = 0; i < 5; ++i) {
    auto box = fork_shared();
    RAMET_REQUIRE_OK(box);
    const auto result = shell(*box, kReadEverything);
    RAMET_REQUIRE_OK(result);
    INFO(result->stdout_data << result->stderr_data);
    std::string rest = result->stdout_data;
    for (size_t end; (end = rest.find('\n')) != std::string::npos; rest.erase(0, end + 1)) {
      CHECK(end > 8);
      lines.insert(rest.substr(0, end));
      ++total;
    }
  }
  CHECK(total == 20);
  CHECK(lines.size() == total);
}

TEST_CASE("what a fork writes to its memory and disk is seen by no other fork, nor by later ones") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  auto first = fork_shared();
  auto second = fork_shared();
  RAMET_REQUIRE_OK(first);
  RAMET_REQUIRE_OK(second);
  const auto written = shell(*first, "echo secret >/root/file && echo secret >/dev/shm/m && sync");
  RAMET_REQUIRE_OK(written);
  INFO(written->stderr_data);
  CHECK(written->exit_code == 0);
  CHECK(shell(*second, "echo other >/root/file && sync")->exit_code == 0);
  auto third = fork_shared();
  RAMET_REQUIRE_OK(third);
  CHECK(shell(*first, "cat /root/file /dev/shm/m")->stdout_data == "secret\nsecret\n");
  CHECK(shell(*second, "cat /root/file; ls /dev/shm")->stdout_data == "other\n");
  CHECK(shell(*third, "ls /root /dev/shm | grep -c -e file -e m$ || true")->stdout_data == "0\n");
  CHECK(first->metrics().private_disk_bytes > 0);
}

TEST_CASE("the wall clock of a fork is the host's, and its monotonic clock goes on") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  auto box = fork_shared();
  RAMET_REQUIRE_OK(box);
  const auto result = shell(*box, "date +%s; cut -d. -f1 /proc/uptime; sleep 0.3; date +%s");
  RAMET_REQUIRE_OK(result);
  long guest = 0;
  long uptime = 0;
  long later = 0;
  REQUIRE(std::sscanf(result->stdout_data.c_str(), "%ld %ld %ld", &guest, &uptime, &later) == 3);
  const auto host = static_cast<long>(std::time(nullptr));
  CHECK(std::labs(host - guest) < 60);
  CHECK(uptime < 600);
  CHECK(later >= guest);
}

TEST_CASE("the five clocks of a fork are there and in order") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  auto box = fork_shared();
  RAMET_REQUIRE_OK(box);
  RAMET_REQUIRE_OK(box->exec({"true"}));
  box->kill();
  RAMET_REQUIRE_OK(box->wait_gone(std::chrono::seconds(30)));
  const sandbox::ForkClocks clocks = box->metrics().clocks;
  REQUIRE(clocks.shell_ready);
  REQUIRE(clocks.first_guest_instruction);
  REQUIRE(clocks.first_agent_reply);
  REQUIRE(clocks.exec_done);
  REQUIRE(clocks.teardown_done);
  CHECK(*clocks.shell_ready < *clocks.first_guest_instruction);
  CHECK(*clocks.first_guest_instruction < *clocks.first_agent_reply);
  CHECK(*clocks.first_agent_reply < *clocks.exec_done);
}

TEST_CASE("a paused sandbox runs nothing, and goes on when resumed") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  auto box = fork_shared();
  RAMET_REQUIRE_OK(box);
  RAMET_REQUIRE_OK(box->pause());
  CHECK(box->state() == sandbox::State::kPaused);
  CHECK(box->exec({"true"}).status().code() == absl::StatusCode::kFailedPrecondition);
  RAMET_REQUIRE_OK(box->resume());
  const auto result = shell(*box, "echo awake");
  RAMET_REQUIRE_OK(result);
  CHECK(result->stdout_data == "awake\n");
}
