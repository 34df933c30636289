// Commands: arguments, environment, user, streams, exit codes, timeouts, many at once.
#include <unistd.h>

#include <chrono>
#include <future>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "tests/support/place.h"
#include "tests/support/skip.h"
#include "tests/system/sandbox/guest_template.h"

namespace {

using ramet::testing::fork_shared;
using ramet::testing::shared_template;
using ramet::testing::shell;

sandbox::Sandbox& shared_box() {
  static auto* const kBox = new sandbox::Sandbox(*fork_shared());
  return *kBox;
}

}  // namespace

TEST_CASE("a command gets its arguments, environment, directory and user") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  const auto result =
      shared_box().exec({"sh", "-c", "printf '%s|' \"$@\"; echo \"$COLOUR\"; pwd; id -u; id -g",
                         "sh", "a b", "", "*"},
                        {.env = std::vector<std::string>{"COLOUR=deep blue", "PATH=/usr/bin:/bin"},
                         .cwd = "/usr/lib",
                         .user = "1234:5678"});
  RAMET_REQUIRE_OK(result);
  CHECK(result->stdout_data == "a b||*|deep blue\n/usr/lib\n1234\n5678\n");
  CHECK(result->stderr_data.empty());
}

TEST_CASE("standard input reaches the command, from bytes and from a descriptor") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  const std::string big(300'000, 'x');
  const auto counted = shared_box().exec({"wc", "-c"}, {.stdin_data = big});
  RAMET_REQUIRE_OK(counted);
  CHECK(counted->stdout_data == "300000\n");
  int fds[2];
  REQUIRE(::pipe(fds) == 0);
  auto writer = std::async(std::launch::async, [&] {
    for (int i = 0; i < 3; ++i) {
      CHECK(::write(fds[1], "line\n", 5) == 5);
    }
    ::close(fds[1]);
  });
  const auto piped = shared_box().exec({"cat"}, {.stdin_fd = fds[0]});
  writer.get();
  ::close(fds[0]);
  RAMET_REQUIRE_OK(piped);
  CHECK(piped->stdout_data == "line\nline\nline\n");
}

TEST_CASE("exit codes and signals come back as shells show them") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  CHECK(shell(shared_box(), "exit 42")->exit_code == 42);
  const auto killed = shell(shared_box(), "kill -TERM $$");
  RAMET_REQUIRE_OK(killed);
  CHECK(killed->signal == 15);
  CHECK(killed->exit_code == 143);
  CHECK(shared_box().exec({"/no/such/command"})->exit_code == 127);
  CHECK(shared_box().exec({"no-such-command"})->exit_code == 127);
  CHECK(shared_box().exec({"/etc/passwd"})->exit_code == 126);
}

TEST_CASE("output is streamed as it comes, not at the end") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  using Clock = std::chrono::steady_clock;
  std::vector<Clock::time_point> moments;
  std::string text;
  const auto result = shared_box().exec({"sh", "-c", "echo one; sleep 1; echo two; echo three >&2"},
                                        {.on_stdout = [&](std::string_view piece) {
                                          moments.push_back(Clock::now());
                                          text += piece;
                                        }});
  RAMET_REQUIRE_OK(result);
  CHECK(text == "one\ntwo\n");
  CHECK(result->stderr_data == "three\n");
  REQUIRE(moments.size() >= 2);
  CHECK(moments.back() - moments.front() > std::chrono::milliseconds(500));
}

TEST_CASE("captured output stops at its limit and says so, and the command still ends") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  const auto result =
      shared_box().exec({"head", "-c", "1000000", "/dev/zero"}, {.capture_bytes = 1000});
  RAMET_REQUIRE_OK(result);
  CHECK(result->exit_code == 0);
  CHECK(result->stdout_data.size() == 1000);
  CHECK(result->stdout_truncated);
}

TEST_CASE("a timeout kills the command and what it started") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  const auto result = shared_box().exec({"sh", "-c", "sleep 1001 & sleep 1001; echo never"},
                                        {.timeout = std::chrono::milliseconds(800)});
  RAMET_REQUIRE_OK(result);
  CHECK(result->timed_out);
  CHECK(result->signal == 9);
  // The pattern does not match the command lines that it stands in.
  const auto left =
      shell(shared_box(), "grep -l '[1]001' /proc/[0-9]*/cmdline 2>/dev/null | wc -l");
  RAMET_REQUIRE_OK(left);
  CHECK(left->stdout_data == "0\n");
}

TEST_CASE("several commands run in one sandbox at once") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  std::vector<std::future<absl::StatusOr<sandbox::ExecResult>>> results;
  for (int i = 0; i < 6; ++i) {
    results.push_back(std::async(std::launch::async, [i] {
      return shell(shared_box(), "sleep 0.5; echo " + std::to_string(i));
    }));
  }
  for (int i = 0; i < 6; ++i) {
    const auto result = results[static_cast<size_t>(i)].get();
    RAMET_REQUIRE_OK(result);
    CHECK(result->stdout_data == std::to_string(i) + "\n");
  }
}

TEST_CASE("python runs") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  const auto result = shared_box().exec({"python3", "-c", "print(6 * 7)"});
  RAMET_REQUIRE_OK(result);
  INFO(result->stderr_data);
  CHECK(result->stdout_data == "42\n");
}
