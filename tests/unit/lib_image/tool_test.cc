#include "lib/image/tool.h"

#include <signal.h>

#include <cerrno>
#include <string>

#include <catch2/catch.hpp>

#include "lib/image/files.h"
#include "tests/unit/lib_image/image_support.h"
#include "vmm/base/fault_plan.h"
#include "vmm/base/syscall.h"

using absl::StatusCode;
using namespace ramet::testing;

TEST_CASE("run_tool tells a missing program, a failing one, a loud one and a slow one apart") {
  ramet::ToolRun run;
  run.name = "no-such-tool-at-all";
  run.package = "some-package";
  const auto missing = ramet::run_tool(run).status();
  CHECK(missing.code() == StatusCode::kUnimplemented);
  CHECK(std::string(missing.message()).find("some-package") != std::string::npos);
  run.name = "sh";
  run.arguments = {"-c", "echo out; echo last words >&2; exit 3"};
  const auto failing = ramet::run_tool(run).status();
  CHECK(failing.code() == StatusCode::kFailedPrecondition);
  CHECK(std::string(failing.message()).find("exit status 3: last words") != std::string::npos);
  run.arguments = {"-c", "echo \"$A\""};
  run.environment = {"A=b"};
  CHECK(*ramet::run_tool(run) == "b\n");
  run.arguments = {"-c", "yes"};
  CHECK(ramet::run_tool(run).status().code() == StatusCode::kResourceExhausted);
  run.arguments = {"-c", "exec sleep 100"};
  run.timeout_ns = 100'000'000;
  CHECK(ramet::run_tool(run).status().code() == StatusCode::kDeadlineExceeded);
}

TEST_CASE("run_tool ends a program that closed its output and goes on") {
  ramet::ToolRun run;
  run.name = "sh";
  run.arguments = {"-c", "exec sleep 100 >/dev/null 2>&1"};
  run.timeout_ns = 200'000'000;
  CHECK(ramet::run_tool(run).status().code() == StatusCode::kDeadlineExceeded);
}

TEST_CASE("run_tool gives the program an empty input, an empty signal mask and one descriptor") {
  const TempDir folder;
  folder.write("file", "inherited\n");
  const auto fd = ramet::sys::open(folder / "file", 0);
  REQUIRE(fd.ok());
  ramet::ToolRun run;
  run.name = "sh";
  run.arguments = {
      "-c", std::string("cat; cat ") + ramet::kInheritedPath + "; grep SigBlk /proc/self/status"};
  run.inherited_fd = fd->get();
  sigset_t blocked;
  sigset_t before;
  ::sigfillset(&blocked);
  REQUIRE(::pthread_sigmask(SIG_SETMASK, &blocked, &before) == 0);
  const auto seen = ramet::run_tool(run);
  REQUIRE(::pthread_sigmask(SIG_SETMASK, &before, nullptr) == 0);
  REQUIRE(seen.ok());
  CHECK(*seen == "inherited\nSigBlk:\t0000000000000000\n");
}

TEST_CASE("run_tool in a process that ignores SIGCHLD says that the exit status is lost") {
  struct sigaction ignore = {};
  struct sigaction before = {};
  ignore.sa_handler = SIG_IGN;
  REQUIRE(::sigaction(SIGCHLD, &ignore, &before) == 0);
  ramet::ToolRun run;
  run.name = "true";
  const auto status = ramet::run_tool(run).status();
  REQUIRE(::sigaction(SIGCHLD, &before, nullptr) == 0);
  CHECK(status.code() == StatusCode::kFailedPrecondition);
  CHECK(std::string(status.message()).find("SIGCHLD") != std::string::npos);
}

TEST_CASE("run_tool: every call that fails is a Status and leaves no descriptor") {
  const size_t open_before = ramet::list_folder("/proc/self/fd")->size();
  for (uint64_t n = 1; n < 100; ++n) {
    ramet::ToolRun run;
    run.name = "true";
    ramet::sys::FaultPlan plan(ramet::sys::Call::kAny, n, EMFILE);
    plan.arm();
    const auto result = ramet::run_tool(run);
    plan.disarm();
    if (!plan.fired()) {
      CHECK(result.ok());
      break;
    }
    INFO("call " << n);
    CHECK(ramet::list_folder("/proc/self/fd")->size() == open_before);
  }
}

TEST_CASE("reading refuses folders, and files over the limit") {
  const TempDir folder;
  folder.write("file", "12345");
  CHECK(ramet::read_text_file(folder / "file", 5).value() == "12345");
  CHECK(ramet::read_whole_file(folder / "file", 4).status().code() ==
        StatusCode::kResourceExhausted);
  CHECK(ramet::read_whole_file(folder.path(), 100).status().code() == StatusCode::kInvalidArgument);
  CHECK(ramet::read_whole_file(folder / "none", 100).status().code() == StatusCode::kNotFound);
}
