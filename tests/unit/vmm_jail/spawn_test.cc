// Processes that spawn() cannot put where they belong.
#include "vmm/jail/spawn.h"

#include <fcntl.h>

#include <cerrno>

#include <catch2/catch.hpp>

#include "vmm/base/fault_plan.h"
#include "vmm/base/syscall.h"

using namespace ramet;
using namespace ramet::jail;

TEST_CASE("a control group that does not take the process is no matter of namespaces: one try") {
  const auto program = sys::open("/bin/true", O_RDONLY);
  const auto full = sys::open("/dev/full", O_WRONLY);
  REQUIRE(program.ok());
  REQUIRE(full.ok());
  sys::FaultPlan second_try(sys::Call::kWrite, 2, EIO);  // each try writes to cgroup.procs
  second_try.arm();
  const auto spawned = spawn({.program = program->get(), .cgroup_procs = full->get()});
  second_try.disarm();
  INFO(spawned.status());
  CHECK(spawned.status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(second_try.seen() == 1);
}
