// exec(), pause() and resume() while a system call fails: a result or a Status; the sandbox goes on
// or says why it ended.
#include <optional>

#include "tests/fault/fault_sweep.h"

namespace {

using namespace ramet::testing;

// A sandbox that runs, for one operation.
struct Box {
  std::optional<sandbox::Sandbox> sandbox;

  void fork() {
    auto made = sandbox::fork(*shared_template());
    RAMET_REQUIRE_OK(made);
    sandbox.emplace(std::move(*made));
  }
  // It runs and answers, or has ended and says why. A disk whose call failed may keep a command
  // waiting in the guest: the command's timeout ends that.
  void check_and_end() {
    if (sandbox->state() == sandbox::State::kRunning) {
      const auto result =
          sandbox->exec({"sh", "-c", "echo still here"}, {.timeout = std::chrono::seconds(5)});
      INFO(text_of(result));
      const bool answered = result.ok() && result->stdout_data == "still here\n";
      const bool waited = result.ok() && result->timed_out;
      CHECK((answered || waited || sandbox->state() != sandbox::State::kRunning));
    } else if (sandbox->state() != sandbox::State::kPaused) {
      CHECK_FALSE(sandbox->end_reason().ok());
    }
    sandbox.reset();
  }
};

}  // namespace

TEST_CASE("whichever system call fails during a command, it is a result or a Status") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  Box box;
  run_sweep({.name = "exec", .dense = 12, .last = 70, .engine = shared_template()->engine()},
            {.prepare = [&] { box.fork(); },
             .operation =
                 [&] {
                   return box.sandbox
                       ->exec({"sh", "-c", "cat >/root/f; sync; cat /root/f"},
                              {.stdin_data = std::string(100'000, 'x'),
                               .timeout = std::chrono::seconds(5)})
                       .status();
                 },
             .clean_up = [&] { box.check_and_end(); }});
  check_fork_works();
}

TEST_CASE("whichever system call fails while a sandbox is paused and resumed, it is a Status") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  Box box;
  run_sweep({.name = "pause", .last = 10, .engine = shared_template()->engine()},
            {.prepare = [&] { box.fork(); },
             .operation =
                 [&] {
                   absl::Status status = box.sandbox->pause();
                   status.Update(box.sandbox->resume());
                   return status;
                 },
             .clean_up = [&] { box.check_and_end(); }});
}
