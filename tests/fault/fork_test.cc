// fork(), kill() and the teardown while a system call fails: a Status or a sandbox, nothing left
// over, and the next fork works.
#include <optional>

#include "tests/fault/fault_sweep.h"

namespace {

using namespace ramet::testing;
using ramet::sys::Call;

sandbox::ForkOptions options() { return {.ready_timeout = std::chrono::seconds(8)}; }

}  // namespace

TEST_CASE("whichever system call of a fork fails, it is a Status and nothing is left") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  check_fork_works();
  run_sweep({.name = "fork", .dense = 48, .engine = shared_template()->engine()},
            {.operation = [] { return sandbox::fork(*shared_template(), options()).status(); }});
  check_fork_works();
}

TEST_CASE(
    "whichever ioctl, mapping or thread of a fork fails, it is a Status and nothing is left") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  check_fork_works();
  for (const Call call :
       {Call::kIoctl, Call::kMmap, Call::kMadvise, Call::kThreadCreate, Call::kGetrandom}) {
    const uint64_t failed = run_sweep(
        {.name = "fork, call kind " + std::to_string(static_cast<int>(call)),
         .call = call,
         .last = 4,
         .engine = shared_template()->engine()},
        {.operation = [] { return sandbox::fork(*shared_template(), options()).status(); }});
    CHECK(failed > 0);
  }
  check_fork_works();
}

TEST_CASE("whichever clock or count of memory a fork's limits need fails, it is a Status") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  sandbox::ForkOptions limited = options();
  limited.limits.cpu_time = std::chrono::hours(1);
  limited.limits.private_memory_bytes = uint64_t{1} << 30;
  // What the engine makes once and keeps is made here.
  RAMET_REQUIRE_OK(sandbox::fork(*shared_template(), limited));
  for (const Call call : {Call::kClock, Call::kThreadCreate}) {
    const uint64_t failed = run_sweep(
        {.name = "fork with limits, call kind " + std::to_string(static_cast<int>(call)),
         .call = call,
         .last = 3,
         .engine = shared_template()->engine()},
        {.operation = [&] { return sandbox::fork(*shared_template(), limited).status(); }});
    CHECK(failed > 0);
  }
  check_fork_works();
}

TEST_CASE("whichever system call fails while a sandbox is killed, its teardown ends") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  std::optional<sandbox::Sandbox> box;
  run_sweep({.name = "kill", .last = 12, .engine = shared_template()->engine()},
            {.prepare =
                 [&] {
                   auto fork = sandbox::fork(*shared_template());
                   RAMET_REQUIRE_OK(fork);
                   box.emplace(std::move(*fork));
                 },
             .operation =
                 [&] {
                   box->kill();
                   return box->wait_gone(std::chrono::seconds(30));
                 },
             .clean_up = [&] { box.reset(); }});
  check_fork_works();
}
