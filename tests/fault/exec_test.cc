// exec(), pause() and resume() while a system call fails: a result or a Status; the sandbox goes on
// or says why it ended.
#include <unistd.h>

#include <array>
#include <optional>

#include "tests/fault/fault_sweep.h"

namespace {

using namespace ramet::testing;
using ramet::sys::Call;

// A sandbox that runs, for one operation.
struct Box {
  std::optional<sandbox::Sandbox> sandbox;

  void fork(const sandbox::ForkOptions& options = {}) {
    auto made = sandbox::fork(*shared_template(), options);
    RAMET_REQUIRE_OK(made);
    sandbox.emplace(std::move(*made));
  }
  // It runs and answers, or has ended and says why.
  void check_and_end() {
    if (sandbox->state() == sandbox::State::kRunning) {
      const auto result =
          sandbox->exec({"sh", "-c", "echo still here"}, {.timeout = std::chrono::seconds(5)});
      INFO(text_of(result));
      const bool answered = result.ok() && result->stdout_data == "still here\n";
      CHECK((answered || sandbox->state() != sandbox::State::kRunning));
    } else if (sandbox->state() != sandbox::State::kPaused) {
      CHECK_FALSE(sandbox->end_reason().ok());
    }
    sandbox.reset();
  }
};

// The read end of a pipe that holds `text` and has no writer.
class FullPipe {
 public:
  explicit FullPipe(const std::string& text) {
    REQUIRE(::pipe(ends_.data()) == 0);
    REQUIRE(::write(ends_[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    ::close(ends_[1]);
  }
  ~FullPipe() { ::close(ends_[0]); }
  FullPipe(const FullPipe&) = delete;
  FullPipe& operator=(const FullPipe&) = delete;
  int fd() const { return ends_[0]; }

 private:
  std::array<int, 2> ends_ = {-1, -1};
};

}  // namespace

TEST_CASE("whichever system call fails during a command, it is a result or a Status") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  Box box;
  run_sweep({.name = "exec", .dense = 40, .engine = shared_template()->engine()},
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

TEST_CASE("whichever system call of a kind fails as a command reads a descriptor, it is a Status") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  Box box;
  std::optional<FullPipe> input;
  for (const Call call : {Call::kRead, Call::kPoll, Call::kEventfd, Call::kWrite,
                          Call::kThreadCreate, Call::kPread, Call::kPwrite, Call::kFtruncate}) {
    const uint64_t failed = run_sweep(
        {.name = "exec of a descriptor, call kind " + std::to_string(static_cast<int>(call)),
         .call = call,
         .last = 5,
         .engine = shared_template()->engine()},
        {.prepare =
             [&] {
               box.fork();
               input.emplace("from a pipe");
             },
         .operation =
             [&] {
               return box.sandbox
                   ->exec({"sh", "-c", "cat >/root/f; sync; cat /root/f"},
                          {.stdin_fd = input->fd(), .timeout = std::chrono::seconds(5)})
                   .status();
             },
         .clean_up =
             [&] {
               box.check_and_end();
               input.reset();
             }});
    CHECK(failed > 0);
  }
}

TEST_CASE("whichever system call fails while the guest writes to its console, it is a Status") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  Box box;
  run_sweep({.name = "console", .dense = 12, .engine = shared_template()->engine()},
            {.prepare = [&] { box.fork({.console = [](std::string_view) {}}); },
             .operation =
                 [&] {
                   return box.sandbox
                       ->exec({"sh", "-c", "echo on the console >/dev/console"},
                              {.timeout = std::chrono::seconds(5)})
                       .status();
                 },
             .clean_up = [&] { box.check_and_end(); }});
}
